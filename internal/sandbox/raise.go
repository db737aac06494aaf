package sandbox

import (
	"errors"
	"fmt"

	libcap "kernel.org/pub/linux/libs/security/libcap/cap"
)

// Raise makes use of those of want that the process has, in all of its threads. A program whose file has capabilities
// that are not effective begins without them; so has the one in the container image, because with effective ones it could not be
// started at all where a container may not have them. It is no error to have none.
func Raise(want ...Capability) error {
	own, err := libcap.GetPID(0)
	if err != nil {
		return fmt.Errorf("look at capabilities: %w", err)
	}
	var failed error
	raised := false
	for _, c := range want {
		permitted, err := own.GetFlag(libcap.Permitted, c)
		effective, err2 := own.GetFlag(libcap.Effective, c)
		if err := errors.Join(err, err2); err == nil && permitted && !effective {
			raised = true
			failed = errors.Join(failed, own.SetFlag(libcap.Effective, true, c))
		}
	}
	if !raised {
		return nil
	}
	if err := errors.Join(failed, own.SetProc()); err != nil {
		return fmt.Errorf("make capabilities effective: %w", err)
	}
	return nil
}
