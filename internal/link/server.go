package link

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/socket"
)

// Back-off of a server that fails: the first pause, doubled each time, and the
// longest, also while peers wait for it.
const (
	minBackOff     = 50 * time.Millisecond
	maxBackOff     = 30 * time.Second
	maxWhileWaited = time.Second
	// maxUntrusted is the longest for a server for which nobody waits, because it may do
	// once somebody has seen to keys.
	maxUntrusted = 5 * time.Second
)

// tryTimeout bounds an attempt where there is something else to be tried: two SYNs,
// and some seconds for an answer.
const tryTimeout = 3 * time.Second

// server is one that links lead to.
//
// It is in use as long as it has a best address. One that fails is left out, and
// run tries it until a connect succeeds; of several addresses the one that answers
// first becomes the best.
type server struct {
	target // addrs, guarded by mu: those not tried lately first; the rest, by Links.turns

	links *Links
	list  *list // that it is of
	pool  *pool
	peers atomic.Int64 // that have a link to it
	best  atomic.Pointer[netip.AddrPort]
	wake  chan struct{} // run is to look what has changed
	sure  sureness
	stop  context.CancelFunc

	order func(n int) // asks a server that has joined for links; nil of one that is dialled

	current int // of the smooth weighted round-robin; guarded by Links.turns

	troubled atomic.Bool  // failures is not 0
	several  atomic.Bool  // it has more than one address
	answered atomic.Int64 // when it answered last, on the clock of links

	mu       sync.Mutex
	failures int           // in a row; guarded by mu
	failed   error         // the last; guarded by mu
	tried    time.Time     // when it was; guarded by mu
	pause    time.Duration // from then on; guarded by mu
	told     bool          // the log has it; guarded by mu
}

func newServer(ls *Links, l *list, t target) *server {
	s := &server{
		target: target{name: t.name, host: t.host}, links: ls, list: l, wake: make(chan struct{}, 1), stop: func() {}, sure: newSureness(),
		pool: &pool{least: ls.cfg.PoolMin, most: ls.cfg.PoolMax, trips: 1, idle: pooledIdle},
	}
	s.aim(t)
	return s
}

// aim has the server be where t says from now on. A single address is taken for the
// best without a try.
func (s *server) aim(t target) {
	s.links.turns.Lock()
	s.priority, s.weight = t.priority, t.weight
	s.links.turns.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if sameAddrs(s.addrs, t.addrs) {
		return
	}
	s.addrs = t.addrs
	s.several.Store(len(t.addrs) > 1)
	s.pool.allow(t.addrs)
	if best := s.best.Load(); best != nil && slices.Contains(t.addrs, *best) {
		return
	}
	s.best.Store(nil)
	s.tried, s.pause = time.Time{}, 0
	if len(t.addrs) == 1 && s.failures == 0 {
		s.best.Store(&t.addrs[0])
		s.links.announce()
	}
	s.poke()
}

func sameAddrs(a, b []netip.AddrPort) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(at netip.AddrPort) bool { return !slices.Contains(b, at) })
}

// poke has run look what has changed.
func (s *server) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// fail leaves the server out, because a link to an address of it failed.
func (s *server) fail(at netip.AddrPort, err error) {
	if s.joined() {
		s.failJoined(err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	best := s.best.Load()
	if best == nil || *best != at {
		return // it is known
	}
	s.best.Store(nil)
	s.pool.giveUp(at)
	s.backOff(err)
	if len(s.addrs) > 1 && s.failures == 1 {
		s.pause = 0 // another address may do
	}
	s.poke()
}

// backOff notes a failure. The caller holds mu.
func (s *server) backOff(err error) {
	s.failures++
	s.troubled.Store(true)
	s.failed, s.tried = err, time.Now()
	pause := min(minBackOff<<min(s.failures-1, 20), maxBackOff)
	if errors.Is(err, auth.ErrUntrusted) {
		pause = min(pause, maxUntrusted)
	}
	s.pause = pause/2 + rand.N(pause/2) //nolint:gosec // no secret
	if s.told {
		return
	}
	s.told = true
	if errors.Is(err, ErrDraining) {
		s.links.cfg.Log.Info("server drains, leaving it out", slog.String("server", s.name))
		return
	}
	event := "server cannot be reached, leaving it out"
	if errors.Is(err, auth.ErrUntrusted) {
		event = "server and client do not trust each other, leaving it out"
	} else if errors.Is(err, ErrForeign) {
		event = "server is not portredirector, leaving it out"
	}
	s.links.cfg.Log.Warn(event, slog.String("server", s.name), slog.Any("error", err)) //nolint:sloglint // a constant
}

// works notes that a server that had failed does its work again. The answers to those
// that it had taken before it failed are not meant.
func (s *server) works() {
	s.answered.Store(s.links.clock())
	if !s.troubled.Load() || s.best.Load() == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = 0
	s.troubled.Store(false)
	if s.told {
		s.told = false
		s.links.cfg.Log.Info("server is back", slog.String("server", s.name))
	}
}

// run tries the server again while it is left out, and opens links that have to be made
// sure of, until ctx ends.
func (s *server) run(ctx context.Context) {
	var openers sync.WaitGroup
	for ctx.Err() == nil {
		s.secureOrdered(ctx, &openers)
		due := s.due()
		if due == 0 {
			s.try(ctx)
			continue
		}
		timer := time.NewTimer(due)
		select {
		case <-timer.C:
		case <-s.wake:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	s.best.Store(nil)
	openers.Wait()
	s.pool.close()
}

// due is how long it is until the next try.
func (s *server) due() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.best.Load() != nil {
		return time.Hour // until it is poked
	}
	pause := s.pause
	if s.links.waiting.Load() > 0 {
		pause = min(pause, maxWhileWaited)
	}
	return max(0, time.Until(s.tried.Add(pause)))
}

// try connects to the address that answers first.
func (s *server) try(ctx context.Context) {
	s.mu.Lock()
	addrs := slices.Clone(s.addrs)
	s.mu.Unlock()
	tctx, cancel := context.WithTimeoutCause(ctx, min(tryTimeout, s.links.cfg.ConnectTimeout), errStuck)
	defer cancel()
	fd, winner, err := race(tctx, s.links.ahead, addrs)
	l := pooled{fd: fd, to: winner}
	if err == nil && s.links.cfg.Secure != nil {
		l, err = s.secure(tctx, fd, winner)
	}
	if err != nil && ctx.Err() != nil {
		return // it says nothing of the server
	}

	s.mu.Lock()
	if err == nil && !slices.Contains(s.addrs, winner) {
		socket.Close(l.fd)
		s.mu.Unlock()
		return // it has moved meanwhile
	}
	if err != nil {
		s.backOff(err)
		s.mu.Unlock()
		s.list.resolveSoon()
		return
	}
	// Those after the winner come first in the next race, if it fails.
	i := slices.Index(s.addrs, winner)
	s.addrs = append(slices.Clone(s.addrs[i+1:]), s.addrs[:i+1]...)
	if s.links.pooling() || s.links.waiting.Load() > 0 {
		s.pool.put(l, false)
	} else {
		socket.Close(l.fd)
	}
	s.best.Store(&winner)
	s.mu.Unlock()
	if !s.links.cfg.Answers {
		s.works()
	}
	s.links.announce()
	s.fill()
}

// fill has the pool have what it is to have.
func (s *server) fill() {
	if s.joined() {
		s.resume()
	}
	want, at, err := s.pool.tick()
	if err != nil {
		s.fail(at, err)
	}
	s.open(want)
}

// open puts so many links into the pool, which has ordered them. Whether an error
// lasts a peer will see.
func (s *server) open(n int) {
	switch {
	case s.joined():
		s.links.demand()
		return
	case s.links.cfg.Secure != nil:
		s.orderSecured(n)
		return
	}
	best := s.best.Load()
	for range n {
		l := none
		if best != nil {
			if fd, err := s.links.ahead.connect(*best); err == nil {
				l = pooled{fd: fd, to: *best}
			}
		}
		s.pool.put(l, true)
	}
}

// take gives a link. Of a server that cannot be connected it gives errLeftOut, of one that
// has to prove who it is, and has no link ahead, errNotReady; any other error is of this
// machine.
func (s *server) take() (Link, error) {
	best := s.best.Load()
	if best == nil {
		return Link{}, errLeftOut
	}
	l := Link{server: s, Timeout: s.links.timeout(s), taken: s.links.clock()}
	var want int
	if l.pooled, l.ready, want = s.pool.take(); l.fd >= 0 {
		s.use(l.fd)
	} else if s.joined() || s.links.cfg.Secure != nil {
		s.open(want)
		return Link{}, errNotReady
	} else {
		fd, err := s.links.dial.connect(*best)
		if err != nil {
			s.open(want)
			if exhausted(err) {
				return Link{}, err
			}
			s.fail(*best, err)
			return Link{}, errLeftOut
		}
		l.pooled = pooled{fd: fd, to: *best}
	}
	s.peers.Add(1)
	s.open(want)
	return l, nil
}

// use makes a link of the pool one that is in use.
func (s *server) use(fd int) {
	if s.joined() {
		_ = socket.KeepAlive(fd, s.links.cfg.KeepAlive)
		return
	}
	s.links.dial.use(fd)
}

var (
	errLeftOut  = errors.New("it is left out")
	errNotReady = errors.New("it has no link ahead")
)

// exhausted is an error that no other server mends.
func exhausted(err error) bool {
	return slices.ContainsFunc([]syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL,
	}, func(errno syscall.Errno) bool { return errors.Is(err, errno) })
}
