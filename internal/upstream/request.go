package upstream

import (
	"math"
	"time"
)

// requestTimeout is the time in which a link must come if any are requested. Then they
// are requested anew.
const requestTimeout = 5 * time.Second

// lacks returns how many links must be requested for the pool, and how many are coming
// that it does not need.
func (p *pool) lacks() (n, spare int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n = int(math.Ceil(p.size)) - len(p.links) - p.coming
	return max(0, n), max(0, min(-n, p.coming))
}

// expect notes that n links were requested.
func (p *pool) expect(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.coming == 0 {
		p.arrived = time.Now()
	}
	p.coming += n
}

// expected returns the number of requested links.
func (p *pool) expected() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.coming
}

// miss notes a peer that would have found no link.
func (p *pool) miss() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken++
	p.size = min(max(p.size, float64(p.least))+1, float64(p.most))
}

// arrive notes that a requested link is there, and its round-trip time.
func (p *pool) arrive(rtt time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Sub(p.arrived) > overdueSuspect {
		p.coming = 1 // the others that were requested before are lost
	}
	p.coming = max(0, p.coming-1)
	p.arrived = now
	p.rtt = rtt.Seconds() * p.trips
}

// overdue returns the time for which no link has arrived: since links were requested, if
// any are; else quiet.
func (p *pool) overdue() (overdue, quiet time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, 0
	}
	since := time.Since(p.arrived)
	if p.coming > 0 {
		return since, 0
	}
	return 0, since
}

// expireRequestsLocked forgets the requests if no link has come for long.
func (p *pool) expireRequestsLocked() {
	if p.onRequest && p.coming > 0 && time.Since(p.arrived) > requestTimeout {
		p.coming = 0
	}
}

// reopen reports what use returns, unless the pool is closed. The pool is not closed
// meanwhile.
func (p *pool) reopen(use func() bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.closed && use()
}
