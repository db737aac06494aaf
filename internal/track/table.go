package track

import (
	"cmp"
	"iter"
	"slices"
	"sync"

	"portredirector/internal/ports"
)

const (
	shards   = 16 // the parts of a table; a power of two
	lastEnds = 8  // the most ended connections that a shard keeps
)

// Table lists the live connections of a client or a server, and counts the ended ones. The
// zero value is ready for use.
type Table struct {
	shards [shards]shard

	onBegin, onEnd observers
}

// shard is a part of a table.
type shard struct {
	mu     sync.Mutex
	index  uint64                   // in the table; set by the first Begin
	first  *Conn                    // of the live ones, the latest; guarded by mu
	latest int64                    // when it began, or one that has ended; guarded by mu
	live   int                      // guarded by mu
	ends   [lastEnds]*Conn          // a ring of ended ones; guarded by mu
	ended  int                      // guarded by mu
	totals map[ports.Port]*counters // by port; guarded by mu
}

// Observe adds functions that receive the record of each connection, until stop is called. The
// table calls begin when a connection gets its first link, or the service's address. It calls end
// when the connection has ended. Both run on loops of the relay and must not block. Each may be nil.
func (t *Table) Observe(begin, end func(Record)) (stop func()) {
	stopBegin, stopEnd := t.onBegin.add(begin), t.onEnd.add(end)
	return func() {
		stopBegin()
		stopEnd()
	}
}

// Begin lists a connection to a port. The owner must be ready to describe it.
func (t *Table) Begin(c *Conn, owner Owner, port ports.Port) {
	c.began, c.owner, c.port = now(), owner, port
	i := mix(c.began) % shards
	s := &t.shards[i]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.latest == 0 {
		s.index = i
	}
	c.began = max(c.began, s.latest+1)
	s.latest = c.began
	c.shard, c.next = s, s.first
	if s.first != nil {
		s.first.prev = c
	}
	s.first = c
	s.live++
}

// Linked ends the phase Queue of a connection. It calls change, which stores the link or the
// address of the service.
func (t *Table) Linked(c *Conn, change func()) {
	s := c.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	c.linked = now()
	change()
	if !c.begun {
		c.begun = true
		t.onBegin.call(c)
	}
}

// End removes a connection from the list, and counts it by the party that ended it. The owner
// must not change it afterwards. One that was never begun is counted as refused, at no port.
func (t *Table) End(c *Conn, by Who, err error) {
	s := c.shard
	if s == nil {
		t.Refuse(ports.Port{}, Code{by, Queue})
		return
	}
	s.mu.Lock()
	c.ended, c.err = now(), err
	if by == Admin && c.cutBy != 0 {
		by = c.cutBy
	}
	if c.code = (Code{by, c.phaseLocked()}); by == Nobody {
		c.code = Finished
	}
	s.unlinkLocked(c)
	s.ends[s.ended%lastEnds] = c
	s.ended++
	s.countersLocked(c.port).add(c)
	s.mu.Unlock()
	t.onEnd.call(c)
}

// Cut ends the live connections whose owner matches, on behalf of a party: Admin or Banned. It
// returns their number. A connection without a pair ends when it gets one. match must not block.
func (t *Table) Cut(by Who, match func(Owner) bool) (n int) {
	for i := range t.shards {
		n += t.shards[i].cut(by, match)
	}
	return n
}

// cut ends the connections of a shard.
func (s *shard) cut(by Who, match func(Owner) bool) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := s.first; c != nil; c = c.next {
		if match(c.owner) {
			c.cutBy = by
			c.Meter.Cut()
			n++
		}
	}
	return n
}

// Forget removes a connection from the list without counting it. It does nothing for one that
// was forgotten already, or never begun.
func (t *Table) Forget(c *Conn) {
	s := c.shard
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unlinkLocked(c)
	c.shard = nil
}

// Refuse counts a connection that has no record, because strangers can open very many.
func (t *Table) Refuse(port ports.Port, code Code) {
	s := &t.shards[port.Number%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.countersLocked(port).ends[code]++
}

// Live returns an iterator over the records of the live connections, in no order.
func (t *Table) Live() iter.Seq[Record] {
	return func(yield func(Record) bool) {
		for i := range t.shards {
			if !t.shards[i].records(yield) {
				return
			}
		}
	}
}

// Len returns the number of live connections.
func (t *Table) Len() (n int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += s.live
		s.mu.Unlock()
	}
	return n
}

// Ended returns the records of the latest connections that ended, newest first.
func (t *Table) Ended() []Record {
	var all []*Conn
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		all = append(all, s.ends[:min(s.ended, lastEnds)]...)
		s.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b *Conn) int { return cmp.Compare(b.ended, a.ended) })
	records := make([]Record, len(all))
	for i, c := range all {
		records[i] = c.recordLocked()
	}
	return records
}

// records yields the records of the live connections of a shard. It holds the lock for a few
// records at a time. It reports whether the caller wants more.
func (s *shard) records(yield func(Record) bool) bool {
	const few = 32
	records := make([]Record, 0, few)
	for some := range slices.Chunk(s.conns(), few) {
		records = s.appendRecords(records[:0], some)
		for _, r := range records {
			if !yield(r) {
				return false
			}
		}
	}
	return true
}

// conns lists the live connections of a shard.
func (s *shard) conns() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*Conn, 0, s.live)
	for c := s.first; c != nil; c = c.next {
		list = append(list, c)
	}
	return list
}

// appendRecords appends the records of connections that are still live.
func (s *shard) appendRecords(records []Record, some []*Conn) []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range some {
		if c.shard != nil && c.ended == 0 {
			records = append(records, c.recordLocked())
		}
	}
	return records
}

// unlinkLocked removes a connection from the list.
func (s *shard) unlinkLocked(c *Conn) {
	if c.prev == nil {
		s.first = c.next
	} else {
		c.prev.next = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.next, c.prev = nil, nil
	s.live--
}

// mix spreads times over the shards (the finalizer of SplitMix64).
func mix(t int64) uint64 {
	x := uint64(t) //nolint:gosec // any bits will do
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	return x ^ x>>31
}
