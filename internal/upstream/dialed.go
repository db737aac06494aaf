package upstream

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/backoff"
	"portredirector/internal/dial"
)

// Pauses between the tries of a failed server.
const (
	minBackoff     = 50 * time.Millisecond
	maxBackoff     = 30 * time.Second
	maxWhileWaited = time.Second // while peers wait for the server
	// maxUntrusted is for a server with a wrong key, which is in use soon after somebody
	// has mended that.
	maxUntrusted = 5 * time.Second
)

// dialed is a server that this client dials. If it fails it is left out, and run tries it
// until a connection succeeds. Of several addresses the one that answers first becomes
// the best.
type dialed struct {
	*server

	host       string // for its certificate
	woken      chan struct{}
	handshakes handshakes
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
}

func newDialed(g *group, e endpoint) *dialed {
	ss := g.set
	d := &dialed{
		server: &server{
			name: e.name, set: ss, group: g,
			pool: &pool{least: ss.cfg.PoolMin, most: ss.cfg.PoolMax, trips: 1, idle: aheadIdle},
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
	d.addrs = e.addrs
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

// run tries the server again while it is left out, and opens authenticated links, until
// ctx is canceled.
func (d *dialed) run(ctx context.Context) {
	var openers sync.WaitGroup
	for ctx.Err() == nil {
		d.openAhead(ctx, &openers)
		d.startProbe(ctx, &openers)
		pause := d.untilTry()
		if pause == 0 {
			d.try(ctx)
			continue
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-d.woken:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	d.best.Store(nil)
	openers.Wait()
	d.pool.close()
}

// untilTry returns the time until the next try.
func (d *dialed) untilTry() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.best.Load() != nil {
		return time.Hour // or until it is woken
	}
	pause := d.pause
	if d.set.waiting.Load() > 0 {
		pause = min(pause, maxWhileWaited)
	}
	return max(0, time.Until(d.tried.Add(pause)))
}

// try finds the address that answers first.
func (d *dialed) try(ctx context.Context) {
	d.mu.Lock()
	addrs := slices.Clone(d.addrs)
	d.mu.Unlock()
	l, err := d.openFirst(ctx, addrs)
	if err != nil && ctx.Err() != nil {
		return // it shows nothing of the server
	}
	d.mu.Lock()
	if err == nil && !slices.Contains(d.addrs, l.to) {
		l.close()
		d.mu.Unlock()
		return // the addresses have changed meanwhile
	}
	if err != nil {
		d.backOffLocked(err)
		d.mu.Unlock()
		d.group.resolveSoon()
		return
	}
	// The addresses behind the winner come first in the next race.
	i := slices.Index(d.addrs, l.to)
	d.addrs = append(slices.Clone(d.addrs[i+1:]), d.addrs[:i+1]...)
	if d.set.pooling() || d.set.waiting.Load() > 0 {
		d.pool.put(l, false)
	} else {
		l.close()
	}
	d.best.Store(&l.to)
	d.mu.Unlock()
	d.answers()
	d.set.announce()
	d.maintain()
}

func (d *dialed) fail(at netip.AddrPort, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	best := d.best.Load()
	if best == nil || *best != at {
		return // it is left out already
	}
	d.best.Store(nil)
	d.pool.giveUp(at)
	d.backOffLocked(err)
	if len(d.addrs) > 1 && d.retry.Failures() == 1 {
		d.pause = 0 // another address may do
	}
	d.wake()
}

// backOffLocked notes a failure and sets the pause before the next try.
func (d *dialed) backOffLocked(err error) {
	d.troubled.Store(true)
	d.failed, d.tried = err, time.Now()
	d.pause = d.retry.Next()
	if errors.Is(err, auth.ErrUntrusted) {
		d.pause = min(d.pause, maxUntrusted)
	}
	if d.told {
		return
	}
	d.told = true
	if errors.Is(err, ErrDraining) {
		d.set.cfg.Log.Info("server drains, leaving it out", slog.String("server", d.name))
		return
	}
	event := "server cannot be reached, leaving it out"
	switch {
	case errors.Is(err, auth.ErrUntrusted):
		event = "server and client do not trust each other, leaving it out"
	case errors.Is(err, ErrForeign):
		event = "server is not portredirector, leaving it out"
	}
	d.set.cfg.Log.Warn(event, slog.String("server", d.name), slog.Any("error", err)) //nolint:sloglint // one of three constants
}

// works ends the trouble of a server that is in use. Answers to peers that it had taken
// before it failed do not count.
func (d *dialed) works() {
	if !d.troubled.Load() || d.best.Load() == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.retry.Reset()
	d.troubled.Store(false)
	if d.told {
		d.told = false
		d.set.cfg.Log.Info("server is back", slog.String("server", d.name))
	}
}

func (d *dialed) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
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
		d.orderHandshakes(n)
		return
	}
	best := d.best.Load()
	for range n {
		l := none
		if best != nil && d.proven() {
			if fd, err := d.set.ahead.Connect(*best); err == nil {
				l = pooled{fd: fd, to: *best}
			}
		}
		d.pool.put(l, true)
	}
}

func (d *dialed) connect(to netip.AddrPort) (pooled, error) {
	if d.set.cfg.Auth != nil {
		return none, errNotReady
	}
	fd, err := d.set.now.Connect(to)
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
	d.set.leave(tried) // the queue is for links that have to be requested
	l, err := d.take()
	if errors.Is(err, errUnproven) {
		select {
		case <-changed:
			return Link{}, errTryOthers
		case <-ctx.Done():
			return Link{}, context.Cause(ctx)
		}
	}
	if !errors.Is(err, errNotReady) {
		return l, err
	}
	l, err = d.openAuthenticated(ctx)
	if err != nil && ctx.Err() == nil && !dial.Exhausted(err) {
		return Link{}, errLeftOut
	}
	return l, err
}

// aheadIdle is the silence after which keepalive probes an unused link. It is shorter
// than in use, because a peer is about to get the link.
const aheadIdle = 5 * time.Second

// aheadOf returns the keepalive of unused links.
func aheadOf(inUse net.KeepAliveConfig) net.KeepAliveConfig {
	c := inUse
	if !c.Enable {
		c = net.KeepAliveConfig{Enable: true, Idle: aheadIdle, Interval: aheadIdle, Count: 3}
	}
	c.Idle = min(aheadIdle, max(c.Idle, time.Second))
	return c
}

// A dialed server is not asked for links: each peer's goroutine opens its own.

func (d *dialed) order(int)    {}
func (d *dialed) pending() int { return 0 }
func (d *dialed) missed()      {}
