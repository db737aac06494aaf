package daemon

import (
	"context"
	"log/slog"
)

// step is one part of a start. It pushes a closer for whatever it opens.
type step struct {
	name string
	open func(ctx context.Context) error
}

// start runs steps until one fails. It reports false without an error if ctx was canceled then: the
// daemon was told to end before it was ready, and the failure is a consequence of that.
func start(ctx context.Context, log *slog.Logger, steps []step) (ok bool, err error) {
	for _, s := range steps {
		switch err := s.open(ctx); {
		case err != nil && ctx.Err() != nil:
			return false, nil
		case err != nil:
			return false, err
		}
		log.Debug("step of the start is done", slog.String("step", s.name))
	}
	return true, nil
}
