// Package limit bounds the number of what strangers can create at will: peers, and
// entries that wait.
package limit

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Errors of [Peers.Enter].
var (
	ErrAll  = errors.New("too many peers in all")
	ErrEach = errors.New("too many peers from one source")
	ErrRate = errors.New("too many new peers a second from one source")
)

// Peers bounds the number of peers at a time, in all and for each key, and the rate of
// new peers for each key. A key is the source of a peer: see [SourcePrefix]. A bound of 0
// is none. The fields must be set before the first Enter.
//
// It keeps the keys of present peers (if MostEach is set), and at most 16,384 keys of the
// last seconds (if RateEach is set). Each peer calls it on a loop that must not wait.
// Without MostEach and RateEach a call is a few atomic operations, otherwise a few
// look-ups under one lock.
type Peers[K comparable] struct {
	Most     int // in all
	MostEach int // for one key
	RateEach int // a second for one key; also the largest burst

	present                              atomic.Int64
	refusedAll, refusedEach, refusedRate atomic.Uint64

	mu     sync.Mutex
	each   map[K]int // present peers, never 0; guarded by mu
	recent recent[K] // guarded by mu
	epoch  time.Time // time 0 of recent; guarded by mu
}

// Counts has the number of present peers, and of peers that each bound has refused.
type Counts struct {
	Peers           int
	All, Each, Rate uint64
}

// LogValue returns the refusals that are not 0 for a structured log.
func (c Counts) LogValue() slog.Value {
	var attrs []slog.Attr
	for _, r := range []struct {
		name string
		n    uint64
	}{{"all", c.All}, {"each", c.Each}, {"rate", c.Rate}} {
		if r.n > 0 {
			attrs = append(attrs, slog.Uint64(r.name, r.n))
		}
	}
	return slog.GroupValue(attrs...)
}

// Enter admits a peer, or returns an error. An admitted peer must Leave once.
func (p *Peers[K]) Enter(k K) error {
	if p.MostEach <= 0 && p.RateEach <= 0 {
		return p.enter()
	}
	if p.Most > 0 && p.present.Load() >= int64(p.Most) { // before any work
		p.refusedAll.Add(1)
		return ErrAll
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	same := 0
	if p.MostEach > 0 {
		if same = p.each[k]; same >= p.MostEach {
			p.refusedEach.Add(1)
			return ErrEach
		}
	}
	var now, full time.Duration
	if p.RateEach > 0 {
		now = p.nowLocked()
		full = max(p.recent.full(k), now) + time.Second/time.Duration(p.RateEach)
		if full > now+time.Second {
			p.refusedRate.Add(1)
			return ErrRate
		}
	}
	// This is last, so that a refused peer takes no place.
	if err := p.enter(); err != nil {
		return err
	}
	if p.MostEach > 0 {
		if p.each == nil {
			p.each = make(map[K]int)
		}
		p.each[k] = same + 1
	}
	if p.RateEach > 0 {
		p.recent.note(k, full, now)
	}
	return nil
}

// enter counts a peer if there is room.
func (p *Peers[K]) enter() error {
	for {
		n := p.present.Load()
		if p.Most > 0 && n >= int64(p.Most) {
			p.refusedAll.Add(1)
			return ErrAll
		}
		if p.present.CompareAndSwap(n, n+1) {
			return nil
		}
	}
}

// nowLocked returns the time on the clock of recent.
func (p *Peers[K]) nowLocked() time.Duration {
	if p.epoch.IsZero() {
		p.epoch = time.Now()
	}
	return time.Since(p.epoch)
}

// Leave removes a peer that was admitted with k.
func (p *Peers[K]) Leave(k K) {
	p.present.Add(-1)
	if p.MostEach <= 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.each[k]; n > 1 {
		p.each[k] = n - 1
	} else {
		delete(p.each, k)
	}
}

// Counts returns the counts so far.
func (p *Peers[K]) Counts() Counts {
	return Counts{
		Peers: int(p.present.Load()),
		All:   p.refusedAll.Load(), Each: p.refusedEach.Load(), Rate: p.refusedRate.Load(),
	}
}
