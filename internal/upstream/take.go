package upstream

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"portredirector/internal/auth"
)

// Errors of servers.
var (
	// ErrDraining is the failure of a server that takes no new peers.
	ErrDraining = errors.New("draining")
	// ErrForeign is the failure of a server that is another program than ours.
	ErrForeign = errors.New("not a portredirector server")

	errTried     = errors.New("there is no other server")
	errNotDialed = errors.New("no server has dialed this client yet")
	errNotKnown  = errors.New("no server is known yet")
	errLeftOut   = errors.New("the server is left out")
	errUnproven  = errors.New("the server has answered nobody yet")
	errNotReady  = errors.New("the server has no link ahead")
	errTryOthers = errors.New("the servers have changed")
	errNoLinks   = errors.New("it opens no link")
)

// Take returns a link to a server that is in use and not among tried. It does not block.
// It returns false if no link is at hand; then the caller must call Wait or Open, and is
// queued behind all peers for which that was so before. An error is a failure of this
// machine.
func (ss *Servers) Take(tried *Tried) (l Link, ok bool, err error) {
	if !ss.mustQueue(tried) {
		l, ok, err = ss.take(tried)
	}
	if !ok && err == nil {
		ss.enter(tried)
	}
	return l, ok, err
}

// mustQueue reports whether queued peers wait for the server that would be chosen for a
// peer, which is behind them then.
func (ss *Servers) mustQueue(tried *Tried) bool {
	if ss.queue.len() == 0 {
		return false
	}
	s := ss.choose(tried)
	if s == nil || !ss.awaited(s) {
		return false
	}
	s.pool.miss()
	return true
}

func (ss *Servers) take(tried *Tried) (l Link, ok bool, err error) {
	for {
		s := ss.choose(tried)
		if s == nil {
			return Link{}, false, nil
		}
		switch l, err := s.take(); {
		case errors.Is(err, errNotReady), errors.Is(err, errUnproven):
			return Link{}, false, nil
		case !errors.Is(err, errLeftOut):
			return l, err == nil, err
		}
	}
}

// Open is like Take, but may block until a server is authenticated or opens a link. It
// returns false if no server is in use.
func (ss *Servers) Open(ctx context.Context, tried *Tried) (Link, bool, error) {
	defer ss.leave(tried)
	return ss.open(ctx, tried)
}

func (ss *Servers) open(ctx context.Context, tried *Tried) (Link, bool, error) {
	for {
		changed := ss.changes()
		s := ss.choose(tried)
		if s == nil {
			return Link{}, false, nil
		}
		l, err := s.source.open(ctx, tried, changed)
		if errors.Is(err, errLeftOut) || errors.Is(err, errTryOthers) {
			continue
		}
		return l, err == nil, err
	}
}

// Wait is like Open, but waits until a server is in use.
func (ss *Servers) Wait(ctx context.Context, tried *Tried) (Link, error) {
	defer ss.leave(tried)
	ss.waiting.Add(1)
	defer ss.waiting.Add(-1)
	for _, s := range *ss.all.Load() {
		s.source.wake()
	}
	for {
		changed := ss.changes()
		l, ok, err := ss.open(ctx, tried)
		switch {
		case err != nil && ctx.Err() != nil:
			return Link{}, ss.failure(tried)
		case ok || err != nil:
			return l, err
		}
		if !ss.untried(tried) {
			return Link{}, errTried
		}
		if err := ss.hopeless(tried); err != nil {
			return Link{}, err
		}
		select {
		case l := <-tried.place():
			return l, nil
		case <-changed:
		case <-ctx.Done():
			return Link{}, ss.failure(tried)
		}
	}
}

// untried reports whether there is, or may be, a server that was not tried.
func (ss *Servers) untried(tried *Tried) bool {
	all := *ss.all.Load()
	return len(all) == 0 || slices.ContainsFunc(all, func(s *server) bool { return !tried.has(s) })
}

// hopeless returns an error if no server will do until somebody changes a key or the
// configuration. Waiting for that does not help a peer.
func (ss *Servers) hopeless(tried *Tried) (err error) {
	for _, s := range *ss.all.Load() {
		if tried.has(s) {
			continue
		}
		failure := s.source.failure()
		if s.best.Load() != nil || !errors.Is(failure, auth.ErrUntrusted) && !errors.Is(failure, ErrSelf) {
			return nil
		}
		err = fmt.Errorf("server %s: %w", s.name, failure)
	}
	return err
}

// Unhealthy returns why no server is in use, and nil if one is.
func (ss *Servers) Unhealthy() error {
	for _, s := range *ss.all.Load() {
		if s.best.Load() != nil {
			return nil
		}
	}
	return ss.failure(&Tried{})
}

// failure returns why no server is in use.
func (ss *Servers) failure(tried *Tried) error {
	for _, s := range *ss.all.Load() {
		if tried.has(s) {
			continue
		}
		if err := s.source.failure(); err != nil {
			return fmt.Errorf("server %s: %w", s.name, err)
		}
	}
	if ss.cfg.Reverse {
		return errNotDialed
	}
	return errNotKnown
}
