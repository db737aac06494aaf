package testnet

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Host is a machine with a network of its own: a network namespace. Its methods may be called concurrently.
type Host struct {
	// Name is the name of the interfaces of other hosts that lead to this one.
	Name string

	ns *os.File // the namespace, which lives at least as long as this is open
}

// NewHost returns a host with a loopback interface only, which is up and has 127.0.0.1 and ::1. The name must be a valid interface
// name. The caller must close the host.
func NewHost(name string) (*Host, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	h := &Host{Name: name}
	err := onOwnThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if h.ns, err = os.Open(currentNamespace); err != nil {
			return err
		}
		return furnish()
	})
	if err != nil {
		if h.ns != nil {
			h.ns.Close()
		}
		return nil, fmt.Errorf("new host %s: %w", name, err)
	}
	return h, nil
}

// Close gives up the host. The namespace itself goes with the last socket and process in it.
func (h *Host) Close() error {
	return h.ns.Close()
}

// Do runs fn in the host: sockets that fn creates, processes that it starts, and files below /proc/thread-self/net and
// /proc/sys/net that it opens are those of the host. fn runs on the caller's goroutine, which is locked to its thread meanwhile,
// so a panic or a t.Fatal has the usual effect. A goroutine that fn starts is *not* in the host, nor is one that a library
// starts, such as net.Dialer.DialContext. Calls can be nested.
func (h *Host) Do(fn func() error) error {
	return onOwnThread(func() error {
		if err := h.withFD(func(fd int) error { return unix.Setns(fd, unix.CLONE_NEWNET) }); err != nil {
			return fmt.Errorf("enter host %s: %w", h.Name, err)
		}
		return fn()
	})
}

// withFD runs fn with the descriptor of the namespace, which stays open meanwhile.
func (h *Host) withFD(fn func(fd int) error) error {
	raw, err := h.ns.SyscallConn()
	if err != nil {
		return err
	}
	var fnErr error
	if err := raw.Control(func(fd uintptr) { fnErr = fn(int(fd)) }); err != nil {
		return os.ErrClosed // the one error it has, and its own is not exported
	}
	return fnErr
}

// currentNamespace names the network namespace of the calling thread. That in /proc/self is the first thread's.
const currentNamespace = "/proc/thread-self/ns/net"

// onOwnThread runs fn, which may change the network namespace, locked to a thread, and restores the namespace afterwards.
// If that fails, the thread stays locked, so it ends with its goroutine and runs no other.
func onOwnThread(fn func() error) (err error) {
	runtime.LockOSThread()
	before, err := unix.Open(currentNamespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open %s: %w", currentNamespace, err)
	}
	defer func() {
		restoreErr := unix.Setns(before, unix.CLONE_NEWNET)
		_ = unix.Close(before)
		if restoreErr != nil {
			err = errors.Join(err, fmt.Errorf("return to the namespace before: %w", restoreErr))
			return
		}
		runtime.UnlockOSThread()
	}()
	return fn()
}

// checkName reports whether an interface can have this name.
func checkName(name string) error {
	switch {
	case name == "" || len(name) >= unix.IFNAMSIZ:
		return fmt.Errorf("host name %q: must have 1 to %d bytes", name, unix.IFNAMSIZ-1)
	case name == "lo" || strings.ContainsAny(name, "./:% \t\n"):
		return fmt.Errorf("host name %q: no interface can have it", name)
	}
	return nil
}
