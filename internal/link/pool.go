package link

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
	"portredirector/internal/socket"
)

// pool has links to one server that were opened ahead of need, so that a peer does
// not wait for the round trip that opening takes. A link is put in while it is still
// being connected; nobody is told when it is, whoever takes it looks.
//
// It is to have as many links as peers come while one is opened, and some more for
// those that come in a bunch. So it grows by one whenever a peer finds none that is
// connected, is never less than what the rate of peers and the round trip make, and
// shrinks slowly.
type pool struct {
	least, most int           // 0 and 0 is no pool
	asked       bool          // its links are ordered by demand, of a server that has joined
	trips       float64       // round trips that opening takes
	idle        time.Duration // the silence after which keepalive asks the other end

	mu     sync.Mutex
	links  []pooled // the oldest first; guarded by mu
	coming int      // links that somebody has promised to put in; guarded by mu
	target float64  // how many there are to be; guarded by mu
	taken  float64  // peers since the last tick; guarded by mu
	rate   float64  // peers a second, the most of lately; guarded by mu
	rtt    float64  // seconds that opening takes, the last that was seen; guarded by mu
	closed bool     // guarded by mu

	arrived time.Time // when a link that was ordered of a server that has joined came last; guarded by mu

	allowed []netip.AddrPort // where links may lead; guarded by mu
}

// pooled is a link in the pool.
type pooled struct {
	fd      int
	to      netip.AddrPort
	session *auth.Session // what it is sure of; nil if it is plain
	late    int           // ticks at which it was still being connected
	seen    bool          // connected
}

// none is a link that could not be opened.
var none = pooled{fd: -1}

const (
	// keep is how much of the size of the pool, and of the rate, is left after a second
	// in which there was no need for it.
	keep = 0.8
	// slack is added to the round trip, for the other end to take the link.
	slack = 0.01
	// spread is how many standard deviations of the number of peers (which is that
	// of a Poisson distribution) the pool is above their mean.
	spread = 3
)

// take gives the oldest link that is connected, or else the oldest that is being
// connected, and closes those that are no more. Without one its descriptor is -1. want
// is how many links the caller has to open and put in, or to say that it did not.
func (p *pool) take() (link pooled, ready bool, want int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken++
	p.target = max(p.target, float64(p.least))
	link = none
	for i := 0; i < len(p.links); i++ {
		state := socket.Look(p.links[i].fd)
		if ready = state.Connected && !p.suspicious(state); ready {
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
		p.target = min(p.target+1, float64(p.most))
		if len(p.links) > 0 {
			link = p.links[0]
			p.links = slices.Delete(p.links, 0, 1)
		}
	}
	return link, ready, p.order(openPerPeer)
}

// openPerPeer is how many links are opened at most while a peer is served: the one
// that replaces its own, and one by which the pool grows. The tick does the rest.
const openPerPeer = 2

// order is how many links, of at most so many, the caller has to open, because there
// are too few.
func (p *pool) order(most int) int {
	if p.closed || p.most == 0 || p.asked {
		return 0
	}
	n := max(0, min(most, int(math.Ceil(p.target))-len(p.links)-p.coming))
	p.coming += n
	return n
}

// suspicious is a link whose other end has not answered the last keepalive: its path
// may be dead, or the network has forgotten it.
func (p *pool) suspicious(s socket.State) bool {
	const late = 1500 * time.Millisecond
	return s.Unanswered > 0 && s.Silence > p.idle+late
}

// put puts a link in, which it owns from then on. One that was ordered could also not
// be opened: then it is none.
func (p *pool) put(l pooled, ordered bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ordered {
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

// tick, once a second, sorts out what is broken or too much, and tells how many
// links the caller has to open. An error is that of a link that cannot be connected,
// to the address at.
func (p *pool) tick() (want int, at netip.AddrPort, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.adjust()
	p.forget()
	live := p.links[:0]
	for _, l := range p.links {
		state := socket.Look(l.fd)
		switch {
		case state.Connected && !p.suspicious(state):
			l.seen = true
			live = append(live, l)
			continue
		case state.Connecting && l.late+1 < stuck:
			l.late++
			live = append(live, l)
			continue
		case state.Connecting:
			at, err = l.to, errStuck
		case !l.seen:
			// It may have been connected between two ticks: then it was closed, or reset.
			if why := socket.Error(l.fd); why != nil && !errors.Is(why, syscall.ECONNRESET) {
				at, err = l.to, os.NewSyscallError("connect", why)
			}
		}
		socket.Close(l.fd)
	}
	p.links = live
	for len(p.links) > int(math.Ceil(p.target)) {
		socket.Close(p.links[0].fd)
		p.links = p.links[1:]
	}
	return p.order(p.most), at, err
}

// stuck is how many ticks a link may take to connect: a lost SYN is sent again after
// one second.
const stuck = 3

// errStuck is the failure of a server that does not answer at all.
var errStuck = errors.New("connect: no answer")

// adjust finds out how many links there are to be.
func (p *pool) adjust() {
	p.rate = max(p.taken, p.rate*keep)
	p.taken = 0
	need := 0.0
	if p.rate >= 1 {
		mean := p.rate * (p.rtt + slack)
		need = math.Ceil(mean + spread*math.Sqrt(mean))
	}
	p.target = min(max(p.target*keep, need, float64(p.least)), float64(p.most))
}

// allow closes the links that lead elsewhere, and those that come later.
func (p *pool) allow(addrs []netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowed = slices.Clone(addrs)
	p.drop(func(l pooled) bool { return !slices.Contains(addrs, l.to) })
}

// giveUp closes the links to an address that are still being connected.
func (p *pool) giveUp(at netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(func(l pooled) bool { return l.to == at && !socket.Look(l.fd).Connected })
}

// drop closes some links. The caller holds mu.
func (p *pool) drop(which func(l pooled) bool) {
	p.links = slices.DeleteFunc(p.links, func(l pooled) bool {
		gone := which(l)
		if gone {
			socket.Close(l.fd)
		}
		return gone
	})
}

// close closes all links, and those that come later.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.drop(func(pooled) bool { return true })
}
