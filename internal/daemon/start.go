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

// start runs steps until one fails. It reports false if ctx was canceled meanwhile: the daemon was
// told to end before it was ready, and an error of a step is but a consequence of that.
func start(ctx context.Context, log *slog.Logger, steps []step) (ok bool, err error) {
	for _, s := range steps {
		err := s.open(ctx)
		if ctx.Err() != nil {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		log.Debug("step of the start is done", slog.String("step", s.name))
	}
	return true, nil
}
