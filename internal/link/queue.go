package link

import (
	"slices"
	"sync"

	"portredirector/internal/socket"
)

// queue has the peers for whom no link is at hand, in the order of their arrival. It is
// for servers that open links themselves, and have to be asked for them first. Of servers
// that can be dialled each peer's own goroutine does so.
type queue struct {
	mu    sync.Mutex
	line  []*waiter // guarded by mu
	picky int       // how many of them have tried a server; guarded by mu
}

// waiter is a peer in the queue.
type waiter struct {
	tried *Tried
	got   chan Link // has room for one
}

// push adds one at the end. The caller holds mu.
func (q *queue) push(w *waiter) {
	q.line = append(q.line, w)
	if len(w.tried.servers) > 0 {
		q.picky++
	}
}

// remove takes one out, who is in the queue. The caller holds mu.
func (q *queue) remove(i int) *waiter {
	w := q.line[i]
	q.line = slices.Delete(q.line, i, i+1)
	if len(w.tried.servers) > 0 {
		q.picky--
	}
	return w
}

// place is where a peer in the queue gets its link; nil, where none ever comes, if it is
// in none.
func (t *Tried) place() <-chan Link {
	if t.waiter == nil {
		return nil
	}
	return t.waiter.got
}

// busy reports whether somebody is before whoever comes now.
func (q *queue) busy() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.line) > 0
}

// enter is the end of the queue for a peer that is not in it.
func (ls *Links) enter(tried *Tried) {
	if !ls.cfg.Joined || tried.waiter != nil {
		return
	}
	tried.waiter = &waiter{tried: tried, got: make(chan Link, 1)}
	ls.queue.mu.Lock()
	ls.queue.push(tried.waiter)
	ls.queue.mu.Unlock()
	ls.demand()
}

// leave has a peer be in the queue no more. A link that it got meanwhile goes to the next.
func (ls *Links) leave(tried *Tried) {
	w := tried.waiter
	if w == nil {
		return
	}
	tried.waiter = nil
	ls.queue.mu.Lock()
	if i := slices.Index(ls.queue.line, w); i >= 0 {
		ls.queue.remove(i)
	}
	ls.queue.mu.Unlock()
	select {
	case l := <-w.got:
		l.Leave()
		_ = socket.KeepAlive(l.fd, heartbeat(ls.cfg.Heartbeat))
		ls.deliver(l.server, l.pooled)
	default:
	}
}

// deliver gives a link to the first in the queue for whom it will do, or to the pool.
func (ls *Links) deliver(s *server, p pooled) {
	ls.queue.mu.Lock()
	defer ls.queue.mu.Unlock()
	i := slices.IndexFunc(ls.queue.line, func(w *waiter) bool { return !w.tried.has(s) })
	if i < 0 || s.best.Load() == nil {
		s.pool.put(p, false)
		return
	}
	w := ls.queue.remove(i)
	_ = socket.KeepAlive(p.fd, ls.cfg.KeepAlive)
	s.peers.Add(1)
	w.got <- Link{pooled: p, server: s, ready: true, taken: ls.clock(), Timeout: ls.timeout(s)}
}

// demand orders what servers that have joined lack: a link for each in the queue, of one
// that will do for it, and what their pools are to have.
func (ls *Links) demand() {
	ls.queue.mu.Lock()
	defer ls.queue.mu.Unlock()
	spare, all := make(map[*server]int), 0 // what is coming for the queue
	orders := make(map[*server]int)
	for _, s := range *ls.all.Load() {
		if !s.joined() || s.best.Load() == nil {
			continue
		}
		lacks, more := s.pool.lacks()
		if lacks > 0 {
			s.pool.expect(lacks)
			orders[s] = lacks
		}
		spare[s] = more
		all += more
	}
	line := ls.queue.line
	if ls.queue.picky == 0 { // any will do for anybody
		line, spare = line[min(all, len(line)):], nil
	}
	for _, w := range line {
		if w.covered(spare) {
			continue
		}
		if s := ls.chooseJoined(w.tried); s != nil {
			s.pool.expect(1)
			orders[s]++
		}
	}
	for s, n := range orders {
		s.order(n)
	}
}

// covered takes what is coming for a peer out of what is to spare, if it is there.
func (w *waiter) covered(spare map[*server]int) bool {
	for s, n := range spare {
		if n > 0 && !w.tried.has(s) {
			spare[s]--
			return true
		}
	}
	return false
}

// missed notes a peer that came when there were others before it.
func (ls *Links) missed(tried *Tried) {
	if s := ls.choose(tried); s != nil && s.joined() {
		s.pool.miss()
	}
}
