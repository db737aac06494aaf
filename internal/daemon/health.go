package daemon

import (
	"context"
	"errors"
	"log/slog"

	"portredirector/internal/health"
)

var errDraining = errors.New("it drains")

// serveHealth answers `portredirector health` and pushes its closer. The daemon is healthy if it
// does not drain and no check returns an error. A failure is logged and does not stop the daemon.
func (c *closers) serveHealth(drain context.Context, log *slog.Logger, checks ...func() error) {
	s, err := health.Serve(func() (note string, err error) {
		if drain.Err() != nil {
			return "", errDraining
		}
		for _, check := range checks {
			if err := check(); err != nil {
				return "", err
			}
		}
		return "", nil
	})
	if err != nil {
		log.Warn("`portredirector health` will not find this process", slog.Any("error", err))
		return
	}
	c.push(s.Close)
}
