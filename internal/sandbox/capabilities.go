package sandbox

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
	libcap "kernel.org/pub/linux/libs/security/libcap/cap"
)

// Capability is a capability of capabilities(7).
type Capability = libcap.Value

// The capabilities that a process may keep.
const (
	// NetAdmin permits transparent sockets, marks, routes and rules.
	NetAdmin = libcap.NET_ADMIN
	// NetBindService permits binding to ports below 1024, also to that of a peer as the source of a
	// transparent socket (ip(7)).
	NetBindService = libcap.NET_BIND_SERVICE
	// DACReadSearch permits reading files of all users.
	DACReadSearch = libcap.DAC_READ_SEARCH
)

// keepCapabilities gives up all capabilities but keep, and returns those of keep that the process has.
// The inheritable and ambient sets become empty. So does the bounding set, if the process may change it
// (CAP_SETPCAP).
func keepCapabilities(keep []Capability) (kept []Capability, err error) {
	// From here on neither set-user-ID nor file capabilities take effect.
	if _, err := libcap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("set no_new_privs: %w", err)
	}

	had, err := libcap.GetPID(0)
	if err != nil {
		return nil, err
	}
	have := func(c Capability) bool {
		is, err := had.GetFlag(libcap.Permitted, c)
		return err == nil && is // an error means that the kernel does not know it
	}

	var failed error
	inherited := libcap.NewIAB()
	if have(libcap.SETPCAP) {
		// This vector lists the capabilities to take out.
		failed = inherited.Fill(libcap.Bound, libcap.NewSet(), libcap.Permitted)
	}
	own := libcap.NewSet()
	for _, c := range keep {
		if have(c) {
			kept = append(kept, c)
			failed = errors.Join(failed, own.SetFlag(libcap.Permitted, true, c), own.SetFlag(libcap.Effective, true, c))
		}
	}
	if failed != nil {
		return nil, failed
	}
	return kept, errors.Join(inherited.SetProc(), own.SetProc())
}

// Effective reports whether a capability of the process is effective.
func Effective(c Capability) bool {
	own, err := libcap.GetPID(0)
	if err != nil {
		return false
	}
	has, err := own.GetFlag(libcap.Effective, c)
	return err == nil && has
}
