package sandbox

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
	libcap "kernel.org/pub/linux/libs/security/libcap/cap"
)

// Capability is one of capabilities(7).
type Capability = libcap.Value

// What the parts of a daemon may have to keep.
const (
	// NetAdmin is for transparent sockets, marks, routes and rules.
	NetAdmin = libcap.NET_ADMIN
	// NetBindService is for binding to ports below 1024; that of a peer, as the
	// source of a transparent socket, is one too (ip(7)).
	NetBindService = libcap.NET_BIND_SERVICE
	// DACReadSearch permits reading files of all users.
	DACReadSearch = libcap.DAC_READ_SEARCH
)

// keepCapabilities gives up all but those of keep, and returns which of these
// the process has. The inheritable, ambient and bounding sets, which are for the
// programs that it would start, become empty; the bounding set only where the
// process may change it (CAP_SETPCAP).
func keepCapabilities(keep []Capability) (kept []Capability, err error) {
	// From here on neither set-user-ID nor file capabilities give a program
	// anything.
	if _, err := libcap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("set no_new_privs: %w", err)
	}

	had, err := libcap.GetPID(0)
	if err != nil {
		return nil, err
	}
	have := func(c Capability) bool {
		is, err := had.GetFlag(libcap.Permitted, c)
		return err == nil && is // an error says that the kernel does not know it
	}

	var failed error
	inherited := libcap.NewIAB()
	if have(libcap.SETPCAP) {
		// The vector is of those that are taken out.
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
