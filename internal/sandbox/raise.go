package sandbox

import (
	"errors"
	"fmt"

	libcap "kernel.org/pub/linux/libs/security/libcap/cap"
)

// Raise makes those capabilities of want effective that the process is permitted, on all threads. It
// succeeds if there are none.
//
// The file of the program in the container image has permitted capabilities that are not effective. With
// effective ones the kernel would not start it in a container that may not have them.
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
