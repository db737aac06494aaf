package link

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"portredirector/internal/auth"
	"portredirector/internal/wire"
)

// Links whose ends make sure of each other take a handshake, which costs processor time
// and waits for round trips. So it is had on goroutines, those of the pool under the
// server's own task, and never on the way of a peer that finds a link ahead.

// mostHandshakes is how many a server is asked for at once.
const mostHandshakes = 32

// sureness is what a server needs for them.
type sureness struct {
	ordered atomic.Int64  // by the pool, to be opened by the task
	under   chan struct{} // has one element for each handshake under way
}

func newSureness() sureness { return sureness{under: make(chan struct{}, mostHandshakes)} }

// orderSecured has the server's task open so many links.
func (s *server) orderSecured(n int) {
	if n > 0 {
		s.sure.ordered.Add(int64(n))
		s.poke()
	}
}

// secureOrdered opens as many of those that were ordered as may be under way at once.
func (s *server) secureOrdered(ctx context.Context, openers *sync.WaitGroup) {
	for s.sure.ordered.Load() > 0 {
		select {
		case s.sure.under <- struct{}{}:
		default:
			return // whoever is ready pokes
		}
		s.sure.ordered.Add(-1)
		openers.Go(func() {
			defer s.poke()
			defer func() { <-s.sure.under }()
			s.pool.put(s.connectSecured(ctx), true)
		})
	}
}

// connectSecured opens a link ahead of need; none if that is not possible.
func (s *server) connectSecured(ctx context.Context) pooled {
	best := s.best.Load()
	if best == nil {
		return none
	}
	fd, err := s.links.ahead.connect(*best)
	if err != nil {
		return none // whether it lasts a peer will see
	}
	l, err := s.secureInTime(ctx, fd, *best)
	if err != nil {
		return none
	}
	return l
}

// dial opens a link for a peer that waits for it. A server with which that is not possible
// is left out.
func (s *server) dial(ctx context.Context) (Link, error) {
	select {
	case s.sure.under <- struct{}{}:
		defer s.poke() // the pool may wait for its turn
		defer func() { <-s.sure.under }()
	case <-ctx.Done():
		return Link{}, context.Cause(ctx)
	}
	best := s.best.Load()
	if best == nil {
		return Link{}, errLeftOut
	}
	l := Link{server: s, Timeout: s.links.timeout(s), taken: s.links.clock()}
	fd, err := s.links.dial.connect(*best)
	if err != nil {
		if !exhausted(err) {
			s.fail(*best, err)
		}
		return Link{}, err
	}
	if l.pooled, err = s.secureInTime(ctx, fd, *best); err != nil {
		return Link{}, err
	}
	s.peers.Add(1)
	return l, nil
}

// secureInTime is secure, after whose failure the server is left out.
func (s *server) secureInTime(ctx context.Context, fd int, to netip.AddrPort) (pooled, error) {
	tctx, cancel := context.WithTimeoutCause(ctx, s.links.timeout(s), errStuck)
	defer cancel()
	l, err := s.secure(tctx, fd, to)
	if err != nil && ctx.Err() == nil && !exhausted(err) {
		s.fail(to, err)
	}
	return l, err
}

// secure makes sure of the other end of a link, which it owns.
func (s *server) secure(ctx context.Context, fd int, to netip.AddrPort) (pooled, error) {
	session, err := s.links.cfg.Secure.Open(ctx, fd, s.host, auth.ToServer)
	if refusal, ok := errors.AsType[auth.Refusal](err); ok && wire.Status(refusal) == wire.Draining {
		return none, ErrDraining
	}
	if err != nil {
		return none, fmt.Errorf("make sure of the server: %w", err)
	}
	return pooled{fd: session.FD, to: to, session: session}, nil
}
