package upstream

import (
	"errors"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"portredirector/internal/dial"
	"portredirector/internal/socket"
)

// pool keeps the idle links to one server, so that a peer does not wait for a link to be
// opened. Some have carried peers before, others were opened ahead of need. A link is put
// in while it is still connecting. The peer that takes it finds out whether it is
// connected.
//
// The size grows by one whenever a peer finds no connected link, and shrinks slowly. Links
// are opened only while there are fewer. Links that come back may be more than that: they
// are closed when nobody has used them for a while.
type pool struct {
	least, most int                 // the pool is off if both are 0
	onRequest   bool                // its links are requested by Servers.demand
	maxAge      time.Duration       // an idle link is closed after so long; 0 is never
	alive       net.KeepAliveConfig // of idle links

	mu     sync.Mutex
	links  []pooled // the last is taken first, and the first is closed first; guarded by mu
	coming int      // links that are being opened or were requested; guarded by mu
	size   float64  // the number of links that there should be; guarded by mu
	closed bool     // guarded by mu

	arrived time.Time // of the last link that a reverse server has opened; guarded by mu

	allowed []netip.AddrPort // destinations of links; guarded by mu
}

const (
	// shrink is the share of the size that is left after a second, and after 30 seconds a
	// half.
	shrink = 0.977
	// openPerPeer is the most links that are opened while a peer is served: one in place
	// of its own, and one by which the pool grows. The tick opens the rest.
	openPerPeer = 2
	// mostLate is the number of ticks that a link may take to connect. A lost SYN is sent
	// again after a second.
	mostLate = 3
)

// take returns the last connected link, or else the last that is connecting. The
// descriptor is -1 if there is none. The caller must open want links and put each in, or
// none in its place.
func (p *pool) take() (link pooled, ready bool, want int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if link, ready = p.removeBestLocked(); !ready {
		p.growLocked()
	}
	return link, ready, p.wantLocked(openPerPeer)
}

// takeIdle is like take, for a peer that was counted before, and opens nothing.
func (p *pool) takeIdle() (link pooled, ready bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.removeBestLocked()
}

// removeBestLocked removes a link for a peer, and closes the broken ones that it finds.
func (p *pool) removeBestLocked() (link pooled, ready bool) {
	connecting := -1
	for i, l := range slices.Backward(p.links) {
		switch state := socket.Look(l.fd); {
		case state.Connected && !p.unresponsive(state):
			return p.removeLocked(i), true
		case !state.Connecting:
			p.removeLocked(i).close()
			connecting--
		case connecting < 0:
			connecting = i
		}
	}
	if connecting < 0 {
		return none, false
	}
	return p.removeLocked(connecting), false
}

// removeLocked removes the link at index i.
func (p *pool) removeLocked(i int) pooled {
	l := p.links[i]
	p.links = slices.Delete(p.links, i, i+1)
	return l
}

// targetLocked returns the number of links that there should be.
func (p *pool) targetLocked() int { return max(p.least, int(math.Round(p.size))) }

// growLocked notes a peer that has found no connected link.
func (p *pool) growLocked() { p.size = min(max(p.size, float64(p.least))+1, float64(p.most)) }

// miss notes a peer that would have found no link.
func (p *pool) miss() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.growLocked()
}

// unmiss takes a miss back: the link that was opened for the peer is itself the one by
// which the pool had to grow.
func (p *pool) unmiss() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.size = max(0, p.size-1)
}

// lackLocked returns how many links there are too few, or too many if it is negative.
func (p *pool) lackLocked() int { return p.targetLocked() - len(p.links) - p.coming }

// wantLocked returns how many links are to be opened, up to most. They are coming then,
// unless they have to be requested yet.
func (p *pool) wantLocked(most int) int {
	if p.closed || p.most == 0 {
		return 0
	}
	n := max(0, min(most, p.lackLocked()))
	if !p.onRequest {
		p.coming += n
	}
	return n
}

// unresponsive reports whether the last keepalive probe of a link was not answered. Its
// path may be dead, or a NAT has dropped its state.
func (p *pool) unresponsive(s socket.State) bool {
	const late = 1500 * time.Millisecond
	return s.Unanswered > 0 && s.Silence > p.alive.Idle+late
}

// put adds a link, which the pool owns from then on. Links that have carried peers are
// taken before the others. The first is closed if there are too many.
func (p *pool) put(l pooled) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || !slices.Contains(p.allowed, l.to) {
		l.close()
		return
	}
	l.since, l.alive = now(), false
	if l.carried > 0 {
		p.links = append(p.links, l)
	} else {
		p.links = slices.Insert(p.links, 0, l)
	}
	if len(p.links) > p.most {
		p.removeLocked(0).close()
	}
}

// settle notes that a link that was coming is there, or will not come.
func (p *pool) settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.coming--
}

// tick is called once a second. It closes broken and old links, and returns how many the
// caller must open. An error is that of a link to the address at that could not be
// connected.
func (p *pool) tick() (want int, at netip.AddrPort, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.size *= shrink
	p.dropLocked(func(l *pooled) bool {
		why := p.checkLocked(l)
		if why != nil && !errors.Is(why, errBroken) {
			at, err = l.to, why
		}
		return why != nil
	})
	surplus := len(p.links) - p.targetLocked()
	p.dropLocked(func(l *pooled) bool {
		old := surplus > 0 && p.maxAge > 0 && l.since.age() > p.maxAge
		if old {
			surplus--
		}
		return old
	})
	return p.wantLocked(p.most), at, err
}

// errBroken is the end of a link that says nothing of its server.
var errBroken = errors.New("the link is broken")

// checkLocked returns why a link is of no use. The keepalive of a connected one is that of
// idle links from then on: the relay may have set another.
func (p *pool) checkLocked(l *pooled) error {
	switch state := socket.Look(l.fd); {
	case state.Connected && !p.unresponsive(state) && l.trusted():
		l.seen = true
		if !l.alive {
			l.alive = true
			_ = socket.KeepAlive(l.fd, p.alive)
		}
		return nil
	case state.Connecting:
		if l.late++; l.late < mostLate {
			return nil
		}
		return dial.ErrTimeout
	case !l.seen:
		// It may have been connected between two ticks, and closed or reset then.
		if why := socket.Error(l.fd); why != nil && !errors.Is(why, syscall.ECONNRESET) {
			return os.NewSyscallError("connect", why)
		}
	}
	return errBroken
}

// allow sets the destinations of links. Links to others are closed, also later ones.
func (p *pool) allow(addrs []netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowed = slices.Clone(addrs)
	p.dropLocked(func(l *pooled) bool { return !slices.Contains(addrs, l.to) })
}

// giveUp closes the links to an address that are still connecting.
func (p *pool) giveUp(at netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropLocked(func(l *pooled) bool { return l.to == at && !socket.Look(l.fd).Connected })
}

// drop closes the links that match, and returns their number.
func (p *pool) drop(match func(l *pooled) bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := len(p.links)
	p.dropLocked(match)
	return before - len(p.links)
}

// dropLocked closes the links that match.
func (p *pool) dropLocked(match func(l *pooled) bool) {
	kept := p.links[:0]
	for _, l := range p.links {
		if match(&l) {
			l.close()
		} else {
			kept = append(kept, l)
		}
	}
	clear(p.links[len(kept):])
	p.links = kept
}

// close closes all links, also later ones.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.dropLocked(func(*pooled) bool { return true })
}
