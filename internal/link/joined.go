package link

import (
	"errors"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"slices"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/socket"
)

// Joined is a server that has come by itself, because the client cannot dial it. It opens
// the links, as many as it is asked for.
type Joined struct{ server *server }

// Join makes a server one of those that peers go to. order asks it to open so many
// links, and does not wait. It takes the place of the one of that name, if there is one.
func (ls *Links) Join(name string, at netip.AddrPort, order func(n int)) *Joined {
	l := ls.joined
	s := newServer(ls, l, target{name: name, host: name, addrs: []netip.AddrPort{at}, weight: 1})
	s.order = order
	s.pool.trips, s.pool.idle, s.pool.asked = tripsToJoin, ls.cfg.Heartbeat, true
	ls.mu.Lock()
	i := slices.IndexFunc(l.servers, func(o *server) bool { return o.name == name })
	before := l.servers
	l.servers = append(slices.Clone(l.servers), s)
	if i >= 0 {
		l.servers = slices.Delete(l.servers, i, i+1)
	}
	ls.mu.Unlock()
	if i >= 0 {
		before[i].part()
	}
	ls.publish()
	ls.cfg.Log.Info("server has dialled", slog.String("server", name), slog.String("from", at.String()))
	s.fill()
	ls.announce()
	return &Joined{s}
}

// tripsToJoin is how many round trips it takes until a link that was asked for is there:
// half of one for asking, one for TCP, one and a half for TLS and its last word.
const tripsToJoin = 3

// Put gives a link that the server has opened. Its socket is no longer the caller's.
func (j *Joined) Put(session *auth.Session) {
	s := j.server
	_ = socket.KeepAlive(session.FD, heartbeat(s.links.cfg.Heartbeat))
	s.pool.arrive(socket.Look(session.FD).RTT)
	s.links.deliver(s, pooled{fd: session.FD, to: s.addrs[0], session: session, seen: true})
}

// heartbeat is the keepalive of a link without a peer: what the network remembers of it
// has to be kept alive, and to be known lost when two heartbeats are.
func heartbeat(every time.Duration) net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: every, Interval: every, Count: 1}
}

// Leave has the server be none of those that peers go to, as it has gone. Those who have
// a link of its keep it.
func (j *Joined) Leave(why error) {
	s, ls := j.server, j.server.links
	s.part()
	ls.mu.Lock()
	i := slices.Index(ls.joined.servers, s)
	if i >= 0 { // else another has its place
		ls.joined.servers = slices.Delete(slices.Clone(ls.joined.servers), i, i+1)
	}
	ls.mu.Unlock()
	ls.publish()
	ls.announce()
	ls.demand()
	if i >= 0 {
		ls.cfg.Log.Warn("server has gone, leaving it out", slog.String("server", s.name), slog.Any("why", why))
	}
}

// joined reports whether the server has come by itself.
func (s *server) joined() bool { return s.order != nil }

// part leaves out a server that has joined, for good.
func (s *server) part() {
	s.pool.close()
	s.best.Store(nil)
}

// failJoined notes that a link of a server that has joined failed. Whether it is there its
// control stream tells; that it drains, its answers tell first. It is left out until the
// next tick, because it also answers so when it has too many links that wait.
func (s *server) failJoined(err error) {
	if errors.Is(err, ErrDraining) {
		s.best.Store(nil)
	}
}

// resume has a server that has joined be in use again, as long as its control stream lives.
func (s *server) resume() {
	s.pool.mu.Lock()
	again := !s.pool.closed && s.best.CompareAndSwap(nil, &s.addrs[0])
	s.pool.mu.Unlock()
	if again {
		s.links.announce()
	}
}

// stale is how long no link may come of those that were ordered. Then they are ordered
// anew.
const stale = 5 * time.Second

// lacks is how many links have to be ordered for the pool, and how many are coming that it
// does not need.
func (p *pool) lacks() (n, spare int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n = int(math.Ceil(p.target)) - len(p.links) - p.coming
	return max(0, n), max(0, min(-n, p.coming))
}

// expect notes links that are ordered.
func (p *pool) expect(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.coming == 0 {
		p.arrived = time.Now()
	}
	p.coming += n
}

// expected is how many links are ordered.
func (p *pool) expected() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.coming
}

// miss notes a peer for whom there would have been no link.
func (p *pool) miss() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken++
	p.target = min(max(p.target, float64(p.least))+1, float64(p.most))
}

// arrive notes that one of them is there, and its round trip.
func (p *pool) arrive(rtt time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.coming = max(0, p.coming-1)
	p.arrived = time.Now()
	p.rtt = rtt.Seconds() * p.trips
}

// forget forgets orders to which nothing has come for long. The caller holds mu.
func (p *pool) forget() {
	if p.asked && p.coming > 0 && time.Since(p.arrived) > stale {
		p.coming = 0
	}
}
