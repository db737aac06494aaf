package route

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// A lease is a name that one process of a network namespace can hold at a
// time. It is a Unix socket in the abstract namespace (unix(7)), so the kernel
// releases it when the process ends, and each network namespace has leases of
// its own, as it has rules and tables.
type lease struct{ socket *net.UnixConn }

// errHeld reports that another process holds the lease.
var errHeld = errors.New("held by another process")

// takeLease takes a lease, or returns errHeld.
func takeLease(name string) (*lease, error) {
	addr := &net.UnixAddr{Net: "unixgram", Name: "@portredirector/" + name}
	c, err := net.ListenUnixgram("unixgram", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, errHeld
	}
	if err != nil {
		return nil, fmt.Errorf("take lease: %w", err)
	}
	return &lease{socket: c}, nil
}

// release gives the lease back.
func (l *lease) release() { _ = l.socket.Close() }

// tableLease takes the lease of the server that uses routing table t.
func tableLease(t int) (*lease, error) { return takeLease(fmt.Sprintf("table/%d", t)) }

// held reports whether a living server uses routing table t.
func held(t int) bool {
	l, err := tableLease(t)
	if err != nil {
		return true
	}
	l.release()
	return false
}

// Limits of waiting for the set-up lease. A set-up takes milliseconds.
const (
	setupWait = 5 * time.Second
	setupPoll = 5 * time.Millisecond
)

// setupLease waits for the lease that serializes changes to the state that the
// servers of a machine share.
func setupLease(ctx context.Context) (*lease, error) {
	ctx, cancel := context.WithTimeout(ctx, setupWait)
	defer cancel()
	for {
		l, err := takeLease("setup")
		if !errors.Is(err, errHeld) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.New("another portredirector is setting up its return routes and does not end")
		case <-time.After(setupPoll):
		}
	}
}
