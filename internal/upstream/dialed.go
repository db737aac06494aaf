package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"portredirector/internal/backoff"
	"portredirector/internal/dial"
)

// dialed is a server that this client dials. If it fails it is left out, and run tries it
// until a connection succeeds. Of several addresses the one that answers first becomes
// the best.
type dialed struct {
	*server

	host       string // for its certificate
	woken      chan struct{}
	handshakes handshakes // only if links are authenticated
	stop       context.CancelFunc
	troubled   atomic.Bool  // it has failed since it worked last
	probe      atomic.Int32 // one of probeNone and so on

	mu     sync.Mutex
	addrs  []netip.AddrPort // those not tried lately first; guarded by mu
	retry  backoff.Backoff  // guarded by mu
	failed error            // the last failure; guarded by mu
	tried  time.Time        // when it was; guarded by mu
	pause  time.Duration    // from then to the next try; guarded by mu
	told   bool             // the log has the failure; guarded by mu
	self   bool             // an address is that of this client; guarded by mu
}

func newDialed(g *group, e endpoint) *dialed {
	ss := g.set
	d := &dialed{
		server: &server{
			name: e.name, set: ss, group: g,
			pool: &pool{
				least: ss.cfg.PoolMin, most: ss.cfg.PoolMax, maxAge: ss.cfg.LinkIdle,
				alive: idleAlive(ss.cfg.KeepAlive), onRequest: ss.cfg.Auth != nil,
			},
		},
		host: e.host, woken: make(chan struct{}, 1), handshakes: newHandshakes(), stop: func() {},
		retry: backoff.Backoff{Min: minBackoff, Max: maxBackoff},
	}
	d.source = d
	d.setEndpoint(e)
	return d
}

// start starts the task of the server.
func (d *dialed) start(ctx context.Context) {
	ctx, d.stop = context.WithCancel(ctx)
	d.set.tasks.Go(func() { d.run(ctx) })
	if d.set.cfg.Beside != nil {
		d.set.tasks.Go(func() { d.set.cfg.Beside(ctx, Dialed{d.name, d.host, d.known}) })
	}
}

// known returns the addresses of the server.
func (d *dialed) known(context.Context) ([]netip.AddrPort, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.addrs), nil
}

// setEndpoint sets where the server is. A single address becomes the best untried.
func (d *dialed) setEndpoint(e endpoint) {
	d.set.turns.Lock()
	d.priority, d.weight = e.priority, e.weight
	d.set.turns.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if sameAddrs(d.addrs, e.addrs) {
		return
	}
	d.addrs, d.self = e.addrs, false
	d.several.Store(len(e.addrs) > 1)
	d.pool.allow(e.addrs)
	if best := d.best.Load(); best != nil && slices.Contains(e.addrs, *best) {
		return
	}
	d.best.Store(nil)
	d.pause = 0
	if len(e.addrs) == 1 && d.retry.Failures() == 0 {
		d.best.Store(&e.addrs[0])
		d.set.announce()
	}
	d.wake()
}

func sameAddrs(a, b []netip.AddrPort) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(at netip.AddrPort) bool { return !slices.Contains(b, at) })
}

// wake makes run look for changes.
func (d *dialed) wake() {
	select {
	case d.woken <- struct{}{}:
	default:
	}
}

func (d *dialed) maintain() {
	d.probeIfDue()
	want, at, err := d.pool.tick()
	if err != nil {
		d.fail(at, err)
	}
	d.refill(want)
}

// refill opens links for the pool. Whether a failure lasts shows when a peer has it, too.
func (d *dialed) refill(n int) {
	if d.set.cfg.Auth != nil {
		d.set.demand()
		return
	}
	best := d.best.Load()
	for range n {
		if best != nil && d.proven() {
			if fd, err := d.set.dial.Connect(*best); err == nil {
				d.pool.put(pooled{fd: fd, to: *best})
			}
		}
		d.pool.settle()
	}
}

// mostUnanswered is the number of peers of a server that has never answered. Others wait
// for its first answer. So an address that leads back to this client, by any way, cannot
// use up all descriptors.
const mostUnanswered = 64

func (d *dialed) connect(to netip.AddrPort) (pooled, error) {
	switch {
	case d.set.cfg.Auth != nil:
		return none, errNotReady
	case !d.proven() && d.peers.Load() >= mostUnanswered:
		return none, errUnproven
	}
	fd, err := d.set.dial.Connect(to)
	switch {
	case err == nil:
		return pooled{fd: fd, to: to}, nil
	case dial.Exhausted(err):
		return none, err
	}
	d.fail(to, err)
	return none, errLeftOut
}

// open opens a link. A server with which that fails is left out.
func (d *dialed) open(ctx context.Context, tried *Tried, changed <-chan struct{}) (Link, error) {
	if d.set.cfg.Auth != nil {
		return d.await(ctx, tried, changed)
	}
	d.set.leave(tried) // the queue is for links that have to be requested
	l, err := d.take()
	if !errors.Is(err, errUnproven) {
		return l, err
	}
	select {
	case <-changed:
		return Link{}, errTryOthers
	case <-ctx.Done():
		return Link{}, context.Cause(ctx)
	}
}

// idleSilence is the silence after which keepalive probes an idle link. It is shorter
// than in use, because a peer is about to get the link.
const idleSilence = 5 * time.Second

// idleAlive returns the keepalive of idle links.
func idleAlive(inUse net.KeepAliveConfig) net.KeepAliveConfig {
	c := inUse
	if !c.Enable {
		c = net.KeepAliveConfig{Enable: true, Idle: idleSilence, Interval: idleSilence, Count: 3}
	}
	c.Idle = min(idleSilence, max(c.Idle, time.Second))
	return c
}
