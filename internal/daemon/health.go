package daemon

import (
	"errors"
	"fmt"
	"log/slog"

	"portredirector/internal/admin"
	"portredirector/internal/relay"
)

var errDraining = errors.New("it drains")

// serveHealth answers `portredirector health` and pushes its closer. The daemon is healthy if it
// does not drain and no check returns an error. One that has retired is healthy, too: nobody counts
// on it. A failure is logged and does not stop the daemon.
func (c *closers) serveHealth(shutdown Shutdown, log *slog.Logger, engine *relay.Engine, checks ...func() error) {
	s, err := admin.Serve(admin.Process{Health: func() (note string, err error) {
		switch {
		case shutdown.Drain.Err() != nil:
			return "", errDraining
		case shutdown.Retire.Err() != nil:
			return fmt.Sprintf("an old worker, which a reload has replaced: %d peers", engine.Len()), nil
		}
		for _, check := range checks {
			if err := check(); err != nil {
				return "", err
			}
		}
		return "", nil
	}})
	if err != nil {
		log.Warn("`portredirector health` will not find this process", slog.Any("error", err))
		return
	}
	c.push(s.Close)
}
