package console

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"portredirector/internal/admin"
	"portredirector/internal/local"
)

// Processes asks the processes of this machine: one, or for 0 all that it finds.
type Processes struct{ PID int }

var errNobody = errors.New("no client or server runs here, or none is ready yet")

// Status asks for the status of the processes, supervisors in place of their workers. The error
// is of those that do not answer. It may come with the status of others.
func (p Processes) Status(ctx context.Context) (all []admin.Status, err error) {
	pids := []int{p.PID}
	if p.PID == 0 {
		if pids, err = admin.Find(); err != nil {
			return nil, err
		}
	}
	all, failed := admin.AskStatus(ctx, pids)
	var workers []int
	for _, s := range all {
		if s.Supervisor {
			for _, w := range s.Workers {
				workers = append(workers, w.PID)
			}
		}
	}
	all = slices.DeleteFunc(all, func(s admin.Status) bool { return slices.Contains(workers, s.PID) })
	for _, pid := range pids {
		if e := failed[pid]; e != nil && (p.PID != 0 || !errors.Is(e, local.ErrTaken) && !slices.Contains(workers, pid)) {
			err = errors.Join(err, fmt.Errorf("process %d: %w", pid, e))
		}
	}
	if len(all) == 0 && err == nil {
		err = errNobody
	}
	return all, err
}
