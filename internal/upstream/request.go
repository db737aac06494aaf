package upstream

import "time"

// requestTimeout is the time in which a link must come if any are requested. Then they
// are requested anew.
const requestTimeout = 5 * time.Second

// lacks returns how many links must be requested for the pool, and how many are coming
// that it does not need.
func (p *pool) lacks() (n, spare int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n = p.lackLocked()
	return max(0, n), max(0, min(-n, p.coming))
}

// needs reports whether all links that are coming are needed, for the pool or for the
// queued peers.
func (p *pool) needs(queued int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lackLocked()+queued >= 0
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

// arrive notes that a requested link of a reverse server is there.
func (p *pool) arrive() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Sub(p.arrived) > overdueSuspect {
		p.coming = 1 // the others that were requested before are lost
	}
	p.coming = max(0, p.coming-1)
	p.arrived = now
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

// expireRequests forgets the requests if no link has come for long.
func (p *pool) expireRequests() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.coming > 0 && time.Since(p.arrived) > requestTimeout {
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
