package upstream

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"portredirector/internal/auth"
)

// ReverseServer is a server that has dialed the client, because the client cannot dial
// it. It opens links when it is asked to.
type ReverseServer struct {
	*server

	at    netip.AddrPort
	post  func(n int) // asks for n links and does not block
	stuck atomic.Bool // it opens no links although it is asked to
}

// Attach adds a server to those that peers go to, in the place of one of the same name.
// post asks the server to open n links and must not block.
func (ss *Servers) Attach(name string, at netip.AddrPort, post func(n int)) *ReverseServer {
	r := &ReverseServer{
		server: &server{
			name: name, set: ss, weight: 1,
			pool: &pool{
				least: ss.cfg.PoolMin, most: ss.cfg.PoolMax, alive: reverseAlive(ss.cfg.Heartbeat),
				onRequest: true, allowed: []netip.AddrPort{at}, arrived: time.Now(),
			},
		},
		at: at, post: post,
	}
	r.source = r
	r.best.Store(&r.at)
	if before := ss.attach(r.server); before != nil {
		before.close()
	}
	ss.publish()
	ss.cfg.Log.Info("server has dialed", slog.String("server", name), slog.String("from", at.String()))
	r.maintain()
	ss.announce()
	return r
}

// attach replaces the attached server of the same name, and returns it.
func (ss *Servers) attach(s *server) (before *server) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	now := append(slices.Clone(ss.attached), s)
	if i := slices.IndexFunc(ss.attached, func(o *server) bool { return o.name == s.name }); i >= 0 {
		before = ss.attached[i]
		now = slices.Delete(now, i, i+1)
	}
	ss.attached = now
	return before
}

// Detach removes the server from selection. Peers that have a link of it keep that.
func (r *ReverseServer) Detach(why error) {
	ss := r.set
	r.close()
	ss.mu.Lock()
	i := slices.Index(ss.attached, r.server)
	if i >= 0 { // else another has its place
		ss.attached = slices.Delete(slices.Clone(ss.attached), i, i+1)
	}
	ss.mu.Unlock()
	ss.publish()
	ss.announce()
	ss.demand()
	if i >= 0 {
		ss.cfg.Log.Warn("server has gone, leaving it out", slog.String("server", r.name), slog.Any("why", why))
	}
}

// close leaves the server out for good.
func (s *server) close() {
	s.pool.close()
	s.best.Store(nil)
}

// Put adds a link that the server has opened, and owns its socket.
func (r *ReverseServer) Put(session *auth.Session) {
	r.pool.arrive()
	r.opens()
	r.set.deliver(r.server, pooled{fd: session.FD, to: r.at, session: session, seen: true})
}

// reverseAlive returns the keepalive settings of an idle link of a reverse server. They
// keep the state of a NAT alive, and detect its loss within two intervals.
func reverseAlive(every time.Duration) net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: every, Interval: every, Count: 1}
}

func (r *ReverseServer) open(ctx context.Context, tried *Tried, changed <-chan struct{}) (Link, error) {
	return r.await(ctx, tried, changed)
}

func (r *ReverseServer) connect(netip.AddrPort) (pooled, error) { return none, errNotReady }

// refill leaves it to demand to find out what the pool lacks: links for queued peers go
// first.
func (r *ReverseServer) refill(int) { r.set.demand() }

func (r *ReverseServer) order(n int) {
	r.pool.expect(n)
	r.post(n)
}

// maintain uses the server again after it said that it drains.
func (r *ReverseServer) maintain() {
	r.checkOpening()
	if !r.stuck.Load() {
		r.use()
	}
	r.pool.expireRequests()
	_, _, _ = r.pool.tick() // its links are connected, and it opens none by itself
	r.set.demand()
}

// use lets peers go to the server, unless it is closed.
func (r *ReverseServer) use() {
	if r.pool.reopen(func() bool { return r.best.CompareAndSwap(nil, &r.at) }) {
		r.set.announce()
	}
}

// fail leaves out a server that drains until the next maintain. The end of the control
// stream tells that the server is gone.
func (r *ReverseServer) fail(_ netip.AddrPort, err error) {
	if errors.Is(err, ErrDraining) {
		r.best.Store(nil)
	}
}

func (r *ReverseServer) works() {}
func (r *ReverseServer) wake()  {}

func (r *ReverseServer) failure() error { return errNoLinks }
