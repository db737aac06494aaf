package upstream

import "slices"

// demand gives queued peers the links that are at hand. Then it requests what is lacking:
// links for the pools, and for each queued peer one of a server that it has not tried.
func (ss *Servers) demand() {
	if !ss.queues() {
		return
	}
	ss.queue.mu.Lock()
	defer ss.queue.mu.Unlock()
	ss.serveQueuedLocked()
	spare := ss.demandForPools()
	line := ss.queue.line
	if ss.queue.picky == 0 && len(line) > 0 { // all of them may have the same links
		line = line[min(ss.spareFor(line[0], spare), len(line)):]
		spare = nil
	}
	for _, w := range line {
		if ss.covered(w, spare) {
			continue
		}
		if s := ss.choose(w.tried); s != nil {
			s.source.order(1)
		}
	}
}

// serveQueuedLocked gives idle links to queued peers. There are some if they came back
// just when the peer was queued, or are of a server that peers go to since another has
// failed.
func (ss *Servers) serveQueuedLocked() {
	for i := 0; i < len(ss.queue.line); {
		s := ss.choose(ss.queue.line[i].tried)
		if s != nil && s.pool.onRequest {
			if l, ready := s.pool.takeIdle(); ready {
				ss.giveLocked(i, s, l)
				continue
			}
		}
		if ss.queue.picky == 0 {
			return // there is none for the others either
		}
		i++
	}
}

// demandForPools requests the links that the pools lack. It returns how many links are
// coming that they do not need.
func (ss *Servers) demandForPools() (spare map[*server]int) {
	spare = make(map[*server]int)
	all := *ss.all.Load()
	trusted := slices.ContainsFunc(all, func(s *server) bool { return s.best.Load() != nil && !s.suspect.Load() })
	for _, s := range all {
		if !s.pool.onRequest || s.best.Load() == nil || trusted && s.suspect.Load() {
			continue
		}
		lacks, more := s.pool.lacks()
		if lacks > 0 {
			s.source.order(lacks)
		}
		spare[s] = more
	}
	return spare
}

// spareFor returns how many of the spare links the peer may have.
func (ss *Servers) spareFor(w *waiter, spare map[*server]int) (n int) {
	for s, more := range spare {
		if ss.waitsFor(w, s) {
			n += more
		}
	}
	return n
}

// covered reports whether a spare link will do for the peer, and takes it out of spare.
func (ss *Servers) covered(w *waiter, spare map[*server]int) bool {
	for s, n := range spare {
		if n > 0 && ss.waitsFor(w, s) {
			spare[s]--
			return true
		}
	}
	return false
}
