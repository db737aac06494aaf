package track

import (
	"maps"
	"time"

	"portredirector/internal/ports"
)

// Totals are the sums over the connections of one port, live and ended.
type Totals struct {
	Live     int
	Ends     map[Code]uint64
	Up, Down int64 // bytes

	LinkWait  Histogram // from the begin until there is a link, or an address of the service
	Connect   Histogram // from the link or address until the service is connected
	FirstByte Histogram // from there until the service's first byte
}

// Merge adds other sums.
func (t *Totals) Merge(o Totals) {
	if t.Ends == nil {
		t.Ends = maps.Clone(o.Ends)
	} else {
		for code, n := range o.Ends {
			t.Ends[code] += n
		}
	}
	t.Live += o.Live
	t.Up += o.Up
	t.Down += o.Down
	t.LinkWait.merge(&o.LinkWait)
	t.Connect.merge(&o.Connect)
	t.FirstByte.merge(&o.FirstByte)
}

// Bounds are the upper bounds of a histogram's buckets. The last bucket has none.
var Bounds = [...]time.Duration{
	time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond, 100 * time.Millisecond,
	300 * time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second, 30 * time.Second,
}

// Histogram counts durations by bucket.
type Histogram struct {
	Buckets [len(Bounds) + 1]uint64
	Sum     time.Duration
}

// add counts a duration.
func (h *Histogram) add(d time.Duration) {
	i := 0
	for i < len(Bounds) && d > Bounds[i] {
		i++
	}
	h.Buckets[i]++
	h.Sum += d
}

// merge adds the counts of another histogram.
func (h *Histogram) merge(o *Histogram) {
	for i, n := range o.Buckets {
		h.Buckets[i] += n
	}
	h.Sum += o.Sum
}

// counters are the totals of ended connections.
type counters struct {
	ends                         map[Code]uint64
	up, down                     int64
	linkWait, connect, firstByte Histogram
}

// countersLocked returns the counters of a port.
func (s *shard) countersLocked(port ports.Port) *counters {
	if s.totals == nil {
		s.totals = make(map[ports.Port]*counters)
	}
	n := s.totals[port]
	if n == nil {
		n = &counters{ends: make(map[Code]uint64)}
		s.totals[port] = n
	}
	return n
}

// add counts an ended connection.
func (n *counters) add(c *Conn) {
	n.ends[c.code]++
	n.up += c.Meter.Up()
	n.down += c.Meter.Down()
	last := c.began
	for _, stage := range []struct {
		at int64
		in *Histogram
	}{{c.linked, &n.linkWait}, {c.Meter.Connected(), &n.connect}, {c.Meter.FirstDown(), &n.firstByte}} {
		if stage.at == 0 {
			return
		}
		stage.in.add(time.Duration(max(stage.at-last, 0)))
		last = stage.at
	}
}

// Totals returns the sums by port. Only Live ever decreases.
func (t *Table) Totals() map[ports.Port]Totals {
	all := make(map[ports.Port]Totals)
	for i := range t.shards {
		t.shards[i].addTo(all)
	}
	return all
}

// addTo adds the shard's sums to all.
func (s *shard) addTo(all map[ports.Port]Totals) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for port, n := range s.totals {
		sum := all[port]
		sum.Merge(Totals{Ends: n.ends, Up: n.up, Down: n.down, LinkWait: n.linkWait, Connect: n.connect, FirstByte: n.firstByte})
		all[port] = sum
	}
	for c := s.first; c != nil; c = c.next {
		sum := all[c.port]
		sum.Live++
		sum.Up += c.Meter.Up()
		sum.Down += c.Meter.Down()
		all[c.port] = sum
	}
}
