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
// round trips. So handshakes run on goroutines. Those for the pool belong to the task of
// the server, and a peer that finds a link ahead never waits for one.

// mostHandshakes is the number of handshakes with a server at a time.
const mostHandshakes = 32

// handshakes counts the handshakes of a server.
type handshakes struct {
	ordered atomic.Int64  // by the pool, for the task to open
	under   chan struct{} // has one element for each handshake under way
}

func newHandshakes() handshakes { return handshakes{under: make(chan struct{}, mostHandshakes)} }

// orderHandshakes makes the task of the server open n links for the pool.
func (d *dialed) orderHandshakes(n int) {
	if n > 0 {
		d.handshakes.ordered.Add(int64(n))
		d.wake()
	}
}

// openAhead opens as many of the ordered links as may be under way at once.
func (d *dialed) openAhead(ctx context.Context, openers *sync.WaitGroup) {
	for d.handshakes.ordered.Load() > 0 {
		select {
		case d.handshakes.under <- struct{}{}:
		default:
			return // the end of a handshake wakes the task
		}
		d.handshakes.ordered.Add(-1)
		openers.Go(func() {
			defer d.wake()
			defer func() { <-d.handshakes.under }()
			d.pool.put(d.openOneAhead(ctx), true)
		})
	}
}

// openOneAhead opens a link ahead of need. It returns none if that fails.
func (d *dialed) openOneAhead(ctx context.Context) pooled {
	best := d.best.Load()
	if best == nil || !d.proven() {
		return none
	}
	fd, err := d.set.ahead.Connect(*best)
	if err != nil {
		return none // whether it lasts shows when a peer has it, too
	}
	l, err := d.authenticateInTime(ctx, fd, *best)
	if err != nil {
		return none
	}
	return l
}

// openAuthenticated opens a link for a peer that waits for it. If that fails the server
// is left out.
func (d *dialed) openAuthenticated(ctx context.Context) (Link, error) {
	select {
	case d.handshakes.under <- struct{}{}:
		defer d.wake() // the pool may wait for its turn
		defer func() { <-d.handshakes.under }()
	case <-ctx.Done():
		return Link{}, context.Cause(ctx)
	}
	best := d.best.Load()
	if best == nil {
		return Link{}, errLeftOut
	}
	l := Link{server: d.server, Timeout: d.set.timeout(d.server), taken: d.set.clock()}
	fd, err := d.set.now.Connect(*best)
	if err != nil {
		if !dial.Exhausted(err) {
			d.fail(*best, err)
		}
		return Link{}, err
	}
	if l.pooled, err = d.authenticateInTime(ctx, fd, *best); err != nil {
		return Link{}, err
	}
	d.gave(l)
	return l, nil
}

// authenticateInTime is like authenticate, and leaves the server out if it fails.
func (d *dialed) authenticateInTime(ctx context.Context, fd int, to netip.AddrPort) (pooled, error) {
	tctx, cancel := context.WithTimeoutCause(ctx, d.set.timeout(d.server), dial.ErrTimeout)
	defer cancel()
	l, err := d.authenticate(tctx, fd, to)
	if err != nil && ctx.Err() == nil && !dial.Exhausted(err) {
		d.fail(to, err)
	}
	return l, err
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
	return pooled{fd: session.FD, to: to, session: session}, nil
}
