package server

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// lastFor is the time for which an address comes last after it failed.
const lastFor = 30 * time.Second

// answer holds the result of the last lookups of a question.
type answer struct {
	addrs  []netip.Addr             // in the resolver's order; nil if none are known
	err    error                    // of the last lookup
	asked  time.Time                // when that ended
	asking chan struct{}            // closed when the running lookup ends; nil if none is running
	failed map[netip.Addr]time.Time // when the dial of an address failed
}

// failed puts an address of a name last for a while.
func (n *Names) failed(q question, addr netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a := n.known[q]; a != nil {
		if a.failed == nil {
			a.failed = make(map[netip.Addr]time.Time)
		}
		a.failed[addr] = time.Now()
	}
}

// works gives an address of a name its place back.
func (n *Names) works(q question, addr netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a := n.known[q]; a != nil {
		delete(a.failed, addr)
	}
}

// note stores the result of a lookup. An answer that there are no addresses replaces
// those known, a failed lookup does not.
func (a *answer) note(addrs []netip.Addr, err error) {
	a.err, a.asked = err, time.Now()
	if err != nil && !errors.Is(err, ErrFamily) {
		return
	}
	a.addrs = addrs
	maps.DeleteFunc(a.failed, func(addr netip.Addr, _ time.Time) bool { return !slices.Contains(addrs, addr) })
}

// sorted returns the addresses, those that failed lately last. When the time of one is
// over, a single caller gets it first, and learns whether it works.
func (a *answer) sorted() []netip.Addr {
	if len(a.failed) == 0 {
		return a.addrs
	}
	now := time.Now()
	last := func(addr netip.Addr) int {
		if at, ok := a.failed[addr]; ok && now.Sub(at) < lastFor {
			return 1
		}
		return 0
	}
	addrs := slices.Clone(a.addrs)
	slices.SortStableFunc(addrs, func(x, y netip.Addr) int { return last(x) - last(y) })
	if _, ok := a.failed[addrs[0]]; ok && last(addrs[0]) == 0 {
		a.failed[addrs[0]] = now
	}
	return addrs
}
