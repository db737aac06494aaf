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
// time, and that is free again when the process ends, by whatever signal: a
// Unix socket in the abstract namespace (unix(7)), which each network
// namespace has of its own, just as its rules and tables.
type lease struct{ socket *net.UnixConn }

// errHeld says that another process has the lease.
var errHeld = errors.New("held by another process")

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

func (l *lease) release() { _ = l.socket.Close() }

// tableLease is held by the server that uses routing table t.
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

// How long to wait for the set-up lease; a set-up takes milliseconds.
const (
	setupWait = 5 * time.Second
	setupPoll = 5 * time.Millisecond
)

// setupLease serialises what servers of one machine do to the state that they
// share. It waits.
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
