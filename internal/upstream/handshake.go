package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"portredirector/internal/auth"
	"portredirector/internal/dial"
	"portredirector/internal/wire"
)

// An authenticated link takes a handshake, which costs processor time and waits for
// round trips. So order only counts links, and the task of the server opens them, each on
// a goroutine. A peer that finds no link waits in the queue, for the first one that is
// opened or comes back.

// mostHandshakes is the number of handshakes with a server at a time.
const mostHandshakes = 32

// handshakes counts the handshakes of a server.
type handshakes struct {
	ordered atomic.Int64  // that have not begun
	under   chan struct{} // has one element for each handshake under way
}

func newHandshakes() handshakes { return handshakes{under: make(chan struct{}, mostHandshakes)} }

func (d *dialed) order(n int) {
	if d.set.cfg.Auth != nil { // else each peer opens its link
		d.pool.expect(n)
		d.handshakes.ordered.Add(int64(n))
		d.wake()
	}
}

// openOrdered opens as many of the ordered links as may be under way at once. It drops an
// order that links which came back have made needless.
func (d *dialed) openOrdered(ctx context.Context, openers *sync.WaitGroup) {
	for d.handshakes.ordered.Load() > 0 {
		if !d.pool.needs(d.set.queue.len()) {
			d.handshakes.ordered.Add(-1)
			d.pool.settle()
			continue
		}
		select {
		case d.handshakes.under <- struct{}{}:
		default:
			return // the end of a handshake wakes the task
		}
		d.handshakes.ordered.Add(-1)
		openers.Go(func() {
			defer d.wake()
			defer func() { <-d.handshakes.under }()
			l, err := d.openAuthenticated(ctx)
			d.pool.settle()
			if err == nil {
				d.set.deliver(d.server, l)
			}
		})
	}
}

// openAuthenticated opens a link. If that fails the server is left out.
func (d *dialed) openAuthenticated(ctx context.Context) (pooled, error) {
	best := d.best.Load()
	if best == nil {
		return none, errLeftOut
	}
	l, err := d.tryAuthenticated(ctx, *best)
	switch {
	case err == nil || ctx.Err() != nil:
	case dial.Exhausted(err):
		d.mu.Lock()
		d.failed = err
		d.mu.Unlock()
	default:
		d.fail(*best, err)
	}
	return l, err
}

// tryAuthenticated opens a link to an address, and gives up after a while.
func (d *dialed) tryAuthenticated(ctx context.Context, to netip.AddrPort) (pooled, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.set.timeout(d.server), dial.ErrTimeout)
	defer cancel()
	fd, err := d.set.dial.Connect(to)
	if err != nil {
		return none, err
	}
	return d.authenticate(ctx, fd, to)
}

// authenticate runs the handshake over a socket, which it owns.
func (d *dialed) authenticate(ctx context.Context, fd int, to netip.AddrPort) (pooled, error) {
	session, err := d.set.cfg.Auth.Open(ctx, fd, d.host, auth.ToServer)
	if refusal, ok := errors.AsType[auth.Refusal](err); ok && wire.Status(refusal) == wire.Draining {
		return none, ErrDraining
	}
	if err != nil {
		return none, fmt.Errorf("authenticate the server: %w", err)
	}
	return pooled{fd: session.FD, to: to, session: session, seen: true}, nil
}
