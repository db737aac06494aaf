package upstream

import (
	"slices"
	"sync"
)

// queue has the peers for which no link is at hand, in the order of their arrival. It is
// for reverse servers, which must be asked for links. For a dialed server the goroutine
// of each peer opens a link.
type queue struct {
	mu    sync.Mutex
	line  []*waiter // guarded by mu
	picky int       // peers in line that have tried a server; guarded by mu
}

// waiter is a queued peer.
type waiter struct {
	tried *Tried
	got   chan Link // has room for one
}

// pushLocked adds a peer at the end.
func (q *queue) pushLocked(w *waiter) {
	q.line = append(q.line, w)
	if len(w.tried.servers) > 0 {
		q.picky++
	}
}

// removeLocked removes the peer at index i.
func (q *queue) removeLocked(i int) *waiter {
	w := q.line[i]
	q.line = slices.Delete(q.line, i, i+1)
	if len(w.tried.servers) > 0 {
		q.picky--
	}
	return w
}

// busy reports whether peers are queued.
func (q *queue) busy() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.line) > 0
}

// place returns the channel on which a queued peer gets its link. It is nil, on which
// none ever comes, for a peer that is not queued.
func (t *Tried) place() <-chan Link {
	if t.waiter == nil {
		return nil
	}
	return t.waiter.got
}

// enter queues a peer, unless it is queued.
func (ss *Servers) enter(tried *Tried) {
	if !ss.cfg.Reverse || tried.waiter != nil {
		return
	}
	tried.waiter = &waiter{tried: tried, got: make(chan Link, 1)}
	ss.queue.mu.Lock()
	ss.queue.pushLocked(tried.waiter)
	ss.queue.mu.Unlock()
	ss.demand()
}

// leave removes a peer from the queue. A link that it got meanwhile goes to the next.
func (ss *Servers) leave(tried *Tried) {
	w := tried.waiter
	if w == nil {
		return
	}
	tried.waiter = nil
	ss.queue.mu.Lock()
	if i := slices.Index(ss.queue.line, w); i >= 0 {
		ss.queue.removeLocked(i)
	}
	ss.queue.mu.Unlock()
	select {
	case l := <-w.got:
		l.Leave()
		ss.deliver(l.server, l.pooled)
	default:
	}
}

// deliver gives a link to the first queued peer that has not tried s, or to the pool.
func (ss *Servers) deliver(s *server, p pooled) {
	ss.queue.mu.Lock()
	defer ss.queue.mu.Unlock()
	i := slices.IndexFunc(ss.queue.line, func(w *waiter) bool { return !w.tried.has(s) })
	if i < 0 || s.best.Load() == nil {
		s.pool.put(p, false)
		return
	}
	w := ss.queue.removeLocked(i)
	l := Link{pooled: p, server: s, ready: true, taken: ss.clock(), Timeout: ss.timeout(s)}
	s.gave(l)
	w.got <- l
}

// demand requests the links that reverse servers lack: one for each queued peer, of a
// server that it has not tried, and those of the pools.
func (ss *Servers) demand() {
	ss.queue.mu.Lock()
	defer ss.queue.mu.Unlock()
	spare, all := make(map[*server]int), 0 // links under way that the pools do not need
	reverse := *ss.reverse.Load()
	trusted := slices.ContainsFunc(reverse, func(s *server) bool { return s.best.Load() != nil && !s.suspect.Load() })
	for _, s := range reverse {
		if s.best.Load() == nil || trusted && s.suspect.Load() {
			continue
		}
		lacks, more := s.pool.lacks()
		if lacks > 0 {
			s.source.order(lacks)
		}
		spare[s] = more
		all += more
	}
	line := ss.queue.line
	if ss.queue.picky == 0 { // any link will do for any peer
		line, spare = line[min(all, len(line)):], nil
	}
	for _, w := range line {
		if w.covered(spare) {
			continue
		}
		if s := ss.chooseForQueue(w.tried); s != nil {
			s.source.order(1)
		}
	}
}

// covered reports whether a link under way will do for the peer, and takes it out of spare.
func (w *waiter) covered(spare map[*server]int) bool {
	for s, n := range spare {
		if n > 0 && !w.tried.has(s) {
			spare[s]--
			return true
		}
	}
	return false
}
