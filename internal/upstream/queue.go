package upstream

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"portredirector/internal/socket"
)

// queue has the peers for which no link is at hand, in the order of their arrival. Each
// gets the first link that is opened or comes back. It is for links that have to be
// requested: those of reverse servers, and authenticated ones. A plain link to a dialed
// server is opened by its peer.
type queue struct {
	waiting atomic.Int64 // peers in line

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
	q.waiting.Add(1)
	if len(w.tried.servers) > 0 {
		q.picky++
	}
}

// removeLocked removes the peer at index i.
func (q *queue) removeLocked(i int) *waiter {
	w := q.line[i]
	q.line = slices.Delete(q.line, i, i+1)
	q.waiting.Add(-1)
	if len(w.tried.servers) > 0 {
		q.picky--
	}
	return w
}

// len returns the number of queued peers.
func (q *queue) len() int { return int(q.waiting.Load()) }

// place returns the channel on which a queued peer gets its link. It is nil, on which
// none ever comes, for a peer that is not queued.
func (t *Tried) place() <-chan Link {
	if t.waiter == nil {
		return nil
	}
	return t.waiter.got
}

// await takes a link, or queues the peer until one comes.
func (s *server) await(ctx context.Context, tried *Tried, changed <-chan struct{}) (Link, error) {
	if tried.waiter == nil { // else it has its place already, and others are before it
		if l, err := s.take(); !errors.Is(err, errNotReady) {
			return l, err
		}
	}
	s.set.enter(tried)
	select {
	case l := <-tried.place():
		return l, nil
	case <-changed:
		return Link{}, errTryOthers
	case <-ctx.Done():
		return Link{}, context.Cause(ctx)
	}
}

// enter queues a peer, unless it is queued.
func (ss *Servers) enter(tried *Tried) {
	if !ss.queues() || tried.waiter != nil {
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
		l.PutBack()
	default:
	}
}

// deliver gives a link to the first queued peer that waits for one of s, or to the pool.
func (ss *Servers) deliver(s *server, p pooled) {
	switch {
	case p.fd < 0:
	case ss.queue.len() == 0:
		s.pool.put(p)
	case !socket.Look(p.fd).Connected:
		p.close()
		ss.demand() // another in its place
	default:
		ss.deliverQueued(s, p)
	}
}

func (ss *Servers) deliverQueued(s *server, p pooled) {
	ss.queue.mu.Lock()
	defer ss.queue.mu.Unlock()
	i := slices.IndexFunc(ss.queue.line, func(w *waiter) bool { return ss.waitsFor(w, s) })
	if i < 0 {
		s.pool.put(p)
		return
	}
	ss.giveLocked(i, s, p)
}

// giveLocked gives a link to the queued peer at index i.
func (ss *Servers) giveLocked(i int, s *server, p pooled) {
	w := ss.queue.removeLocked(i)
	l := Link{pooled: p, server: s, ready: true, missed: true, taken: ss.clock(), Timeout: ss.timeout(s)}
	s.gave(l)
	w.got <- l
}

// waitsFor reports whether a queued peer may get a link of s.
func (ss *Servers) waitsFor(w *waiter, s *server) bool {
	switch {
	case s.best.Load() == nil || w.tried.has(s):
		return false
	case ss.cfg.Balance == Failover:
		return ss.choose(w.tried) == s
	default:
		return true
	}
}

// awaited reports whether a queued peer may get a link of s.
func (ss *Servers) awaited(s *server) bool {
	ss.queue.mu.Lock()
	defer ss.queue.mu.Unlock()
	return slices.ContainsFunc(ss.queue.line, func(w *waiter) bool { return ss.waitsFor(w, s) })
}
