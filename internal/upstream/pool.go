package upstream

import (
	"errors"
	"math"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/dial"
	"portredirector/internal/socket"
)

// pool keeps links to one server that were opened ahead of need, so that a peer does not
// wait for the round trip of connecting. A link is put in while it is still connecting.
// Nobody is told when it is connected; its taker asks the kernel.
//
// The pool is to have as many links as peers come while one is opened, and some more for
// bursts. So it grows by one whenever a peer finds none that is connected, is never
// smaller than the rate of peers and the round trip demand, and shrinks slowly.
type pool struct {
	least, most int           // the pool is off if both are 0
	onRequest   bool          // its links have to be requested of a reverse server
	trips       float64       // round trips until a new link is there
	idle        time.Duration // the silence after which keepalive probes a link

	mu     sync.Mutex
	links  []pooled // the oldest first; guarded by mu
	coming int      // links that are being opened or were requested; guarded by mu
	size   float64  // the number of links that there should be; guarded by mu
	taken  float64  // peers since the last tick; guarded by mu
	rate   float64  // peers a second, the most of lately; guarded by mu
	rtt    float64  // seconds until a new link is there, as last seen; guarded by mu
	closed bool     // guarded by mu

	arrived time.Time // of the last requested link; guarded by mu

	allowed []netip.AddrPort // destinations of links; guarded by mu
}

// pooled is a link in the pool.
type pooled struct {
	fd      int
	to      netip.AddrPort
	session *auth.Session // nil if the link is plain
	carried uint64        // headers that the link has carried
	late    int           // ticks at which it was still connecting
	seen    bool          // it was connected at a tick
}

// none is a link that could not be opened.
var none = pooled{fd: -1}

const (
	// keep is the share of the size, and of the rate, that is left after a second without
	// need for it.
	keep = 0.8
	// slack is added to the round trip, for the other end to accept the link.
	slack = 0.01
	// spread is the distance of the size from the mean number of peers, in standard
	// deviations of a Poisson distribution.
	spread = 3
)

// take returns the oldest connected link, or else the oldest that is connecting, and
// closes broken ones. The descriptor is -1 if there is none. The caller must open want
// links and put each in, or none in its place.
func (p *pool) take() (link pooled, ready bool, want int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken++
	p.size = max(p.size, float64(p.least))
	link = none
	for i := 0; i < len(p.links); i++ {
		state := socket.Look(p.links[i].fd)
		if ready = state.Connected && !p.unresponsive(state); ready {
			p.rtt = state.RTT.Seconds() * p.trips
			link = p.links[i]
			p.links = slices.Delete(p.links, i, i+1)
			break
		}
		if !state.Connecting {
			socket.Close(p.links[i].fd)
			p.links = slices.Delete(p.links, i, i+1)
			i--
		}
	}
	if !ready {
		p.size = min(p.size+1, float64(p.most))
		if len(p.links) > 0 {
			link = p.links[0]
			p.links = slices.Delete(p.links, 0, 1)
		}
	}
	return link, ready, p.wantLocked(openPerPeer)
}

// openPerPeer is the most links that are opened while a peer is served: one in place of
// its own, and one by which the pool grows. The tick opens the rest.
const openPerPeer = 2

// wantLocked returns how many links, up to most, the caller must open.
func (p *pool) wantLocked(most int) int {
	if p.closed || p.most == 0 || p.onRequest {
		return 0
	}
	n := max(0, min(most, int(math.Ceil(p.size))-len(p.links)-p.coming))
	p.coming += n
	return n
}

// unresponsive reports whether the last keepalive probe of a link was not answered. Its
// path may be dead, or a NAT has dropped its state.
func (p *pool) unresponsive(s socket.State) bool {
	const late = 1500 * time.Millisecond
	return s.Unanswered > 0 && s.Silence > p.idle+late
}

// put adds a link, which the pool owns from then on. A link that take or tick wanted is
// wanted; it is none if it could not be opened.
func (p *pool) put(l pooled, wanted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if wanted {
		p.coming--
	}
	if l.fd < 0 {
		return
	}
	if p.closed || !slices.Contains(p.allowed, l.to) {
		socket.Close(l.fd)
		return
	}
	p.links = append(p.links, l)
}

// tick is called once a second. It closes broken and surplus links, and returns how many
// the caller must open. An error is that of a link to the address at that could not be
// connected.
func (p *pool) tick() (want int, at netip.AddrPort, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resizeLocked()
	p.expireRequestsLocked()
	live := p.links[:0]
	for _, l := range p.links {
		state := socket.Look(l.fd)
		switch {
		case state.Connected && !p.unresponsive(state):
			l.seen = true
			live = append(live, l)
			continue
		case state.Connecting && l.late+1 < mostLate:
			l.late++
			live = append(live, l)
			continue
		case state.Connecting:
			at, err = l.to, dial.ErrTimeout
		case !l.seen:
			// It may have been connected between two ticks, and closed or reset then.
			if why := socket.Error(l.fd); why != nil && !errors.Is(why, syscall.ECONNRESET) {
				at, err = l.to, os.NewSyscallError("connect", why)
			}
		}
		socket.Close(l.fd)
	}
	p.links = live
	for len(p.links) > int(math.Ceil(p.size)) {
		socket.Close(p.links[0].fd)
		p.links = p.links[1:]
	}
	return p.wantLocked(p.most), at, err
}

// mostLate is the number of ticks that a link may take to connect. A lost SYN is sent
// again after a second.
const mostLate = 3

// resizeLocked computes the size from the peers of the last second.
func (p *pool) resizeLocked() {
	p.rate = max(p.taken, p.rate*keep)
	p.taken = 0
	need := 0.0
	if p.rate >= 1 {
		mean := p.rate * (p.rtt + slack)
		need = math.Ceil(mean + spread*math.Sqrt(mean))
	}
	p.size = min(max(p.size*keep, need, float64(p.least)), float64(p.most))
}

// allow sets the destinations of links. Links to others are closed, also later ones.
func (p *pool) allow(addrs []netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowed = slices.Clone(addrs)
	p.dropLocked(func(l pooled) bool { return !slices.Contains(addrs, l.to) })
}

// giveUp closes the links to an address that are still connecting.
func (p *pool) giveUp(at netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropLocked(func(l pooled) bool { return l.to == at && !socket.Look(l.fd).Connected })
}

// drop closes the links that match, and returns their number.
func (p *pool) drop(match func(l pooled) bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := len(p.links)
	p.dropLocked(match)
	return before - len(p.links)
}

// dropLocked closes the links that match.
func (p *pool) dropLocked(match func(l pooled) bool) {
	p.links = slices.DeleteFunc(p.links, func(l pooled) bool {
		drop := match(l)
		if drop {
			socket.Close(l.fd)
		}
		return drop
	})
}

// close closes all links, also later ones.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.dropLocked(func(pooled) bool { return true })
}
