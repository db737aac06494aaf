package server

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	refreshEvery  = 5 * time.Second  // of all names
	lookupTimeout = 10 * time.Second // of a refresh
	negativeFor   = time.Second      // the shortest time between two lookups of a name
)

// Resolver looks up the addresses of a name. The network is "ip4" or "ip6". A
// *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Names caches the addresses of names. Run refreshes them in the background, so that a
// peer waits for a lookup only where nothing is known. While lookups fail, the known
// addresses stay in use. Its methods may be called concurrently.
type Names struct {
	resolver Resolver
	log      *slog.Logger

	mu    sync.Mutex
	known map[question]*answer
}

// NewNames returns a cache without names.
func NewNames(r Resolver, log *slog.Logger) *Names {
	return &Names{resolver: r, log: log, known: make(map[question]*answer)}
}

// question is one lookup: a name in one family.
type question struct{ network, host string }

// cached returns the addresses of a name without waiting. It reports false if they must
// be looked up.
func (n *Names) cached(q question) (addrs []netip.Addr, ok bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch a := n.known[q]; {
	case a == nil:
		return nil, false, nil
	case len(a.addrs) > 0:
		return a.sorted(), true, nil
	case a.err != nil && time.Since(a.asked) < negativeFor:
		return nil, true, a.err
	}
	return nil, false, nil
}

// lookup returns the addresses of a name, and waits for them if none are known.
func (n *Names) lookup(ctx context.Context, q question) ([]netip.Addr, error) {
	for {
		addrs, ok, err := n.cached(q)
		if ok {
			return addrs, err
		}
		if err := n.ask(ctx, q); ctx.Err() != nil {
			return nil, err
		}
	}
}

// ask looks a name up, or waits for the lookup that is already running.
func (n *Names) ask(ctx context.Context, q question) error {
	n.mu.Lock()
	a := n.known[q]
	if a == nil {
		a = new(answer)
		n.known[q] = a
	}
	if running := a.asking; running != nil {
		n.mu.Unlock()
		select {
		case <-running:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	a.asking = make(chan struct{})
	n.mu.Unlock()

	addrs, err := resolve(ctx, n.resolver, q)

	n.mu.Lock()
	close(a.asking)
	a.asking = nil
	if ctx.Err() != nil && !errors.Is(context.Cause(ctx), errNoDNS) {
		n.mu.Unlock()
		return err // says nothing about the name
	}
	before := a.err
	a.note(addrs, err)
	kept := len(a.addrs) > 0
	n.mu.Unlock()
	n.tell(q, kept, before, err)
	return err
}

// askAgain looks a name up anew, unless that was done a moment ago.
func (n *Names) askAgain(ctx context.Context, q question) {
	n.mu.Lock()
	a := n.known[q]
	fresh := a != nil && time.Since(a.asked) < negativeFor
	n.mu.Unlock()
	if !fresh {
		_ = n.ask(ctx, q)
	}
}

// tell logs that the lookups of a name in use begin to fail, or work again.
func (n *Names) tell(q question, kept bool, before, now error) {
	switch {
	case !kept:
	case now != nil && before == nil:
		n.log.Warn("name of the service cannot be resolved, its known addresses stay in use",
			slog.String("name", q.host), slog.Any("error", now))
	case now == nil && before != nil:
		n.log.Info("name of the service can be resolved again", slog.String("name", q.host))
	}
}

// Run refreshes all names that were asked for, until ctx is canceled.
func (n *Names) Run(ctx context.Context) {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			n.refresh(ctx)
		}
	}
}

// errNoDNS is the cause of a refresh that takes too long.
var errNoDNS = errors.New("the name server does not answer")

// refresh looks all names up anew.
func (n *Names) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(ctx, lookupTimeout, errNoDNS)
	defer cancel()
	n.mu.Lock()
	questions := slices.Collect(maps.Keys(n.known))
	n.mu.Unlock()
	var lookups sync.WaitGroup
	for _, q := range questions {
		lookups.Go(func() { _ = n.ask(ctx, q) })
	}
	lookups.Wait()
}
