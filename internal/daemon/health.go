package daemon

import (
	"errors"
	"log/slog"

	"portredirector/internal/health"
)

// tellHealth answers who asks how the daemon is, until the returned function is called:
// it is well as long as it does not drain and no one of ails returns an error. Not to be
// able to tell is no reason not to run.
func tellHealth(life Life, log *slog.Logger, ails ...func() error) (end func()) {
	s, err := health.Serve(func() error {
		if life.Drain.Err() != nil {
			return errDraining
		}
		for _, ail := range ails {
			if err := ail(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		log.Warn("`portredirector health` will not find this process", slog.Any("error", err))
		return func() {}
	}
	return s.Close
}

var errDraining = errors.New("it drains")
