package console

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"portredirector/internal/admin"
	"portredirector/internal/local"
)

// Processes selects processes of this machine: one, or all if PID is 0.
type Processes struct{ PID int }

var errNobody = errors.New("no client or server runs here, or none is ready yet")

// Status returns the status of the processes. Supervisors answer for their workers. The error joins
// those of processes that do not answer, and may come with the status of others.
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
