// Package limit bounds how many there are of what strangers can make at will: peers,
// and things that wait.
package limit

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// These are why a peer may not enter.
var (
	ErrAll  = errors.New("too many peers in all")
	ErrEach = errors.New("too many peers from one source")
	ErrRate = errors.New("too many new peers a second from one source")
)

// Peers bounds how many peers there are at a time, in all and with each key, and how
// many may come in a second with each key. A key says where a peer is from: see
// [SourcePrefix]. A bound of 0 is none. The fields must be set before the first Enter.
//
// It remembers the keys of the peers that are there (if MostEach is set), and at most
// 16,384 keys of those who came in the last seconds (if RateEach is). It takes part in
// every peer's life, on loops that must not wait: without MostEach and RateEach it is a
// few atomic operations, otherwise a few look-ups under one lock.
type Peers[K comparable] struct {
	Most     int // in all
	MostEach int // with one key
	RateEach int // that may come in a second with one key; at once, too, after a quiet second

	there                                atomic.Int64
	refusedAll, refusedEach, refusedRate atomic.Uint64

	mu     sync.Mutex
	each   map[K]int // how many are there, never 0; guarded by mu
	recent recent[K] // guarded by mu
	began  time.Time // recent's beginning of time; guarded by mu
}

// Counts are how many peers are there, and how many were refused by each bound.
type Counts struct {
	Peers           int
	All, Each, Rate uint64
}

// LogValue gives those that are not 0 to a structured log.
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

// Enter lets a peer in, or says why not. Who was let in must Leave, once.
func (p *Peers[K]) Enter(k K) error {
	if p.MostEach <= 0 && p.RateEach <= 0 {
		return p.enter()
	}
	if p.Most > 0 && p.there.Load() >= int64(p.Most) { // before any work
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
		now = p.now()
		full = max(p.recent.full(k), now) + time.Second/time.Duration(p.RateEach)
		if full > now+time.Second {
			p.refusedRate.Add(1)
			return ErrRate
		}
	}
	// This is last, so that a peer who is refused takes nobody's place.
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

// enter counts one more, if there is room.
func (p *Peers[K]) enter() error {
	for {
		n := p.there.Load()
		if p.Most > 0 && n >= int64(p.Most) {
			p.refusedAll.Add(1)
			return ErrAll
		}
		if p.there.CompareAndSwap(n, n+1) {
			return nil
		}
	}
}

// now is the time, for recent. The caller holds mu.
func (p *Peers[K]) now() time.Duration {
	if p.began.IsZero() {
		p.began = time.Now()
	}
	return time.Since(p.began)
}

// Leave is the end of a peer that was let in with this key.
func (p *Peers[K]) Leave(k K) {
	p.there.Add(-1)
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

// Counts tells how many there are, and were refused.
func (p *Peers[K]) Counts() Counts {
	return Counts{
		Peers: int(p.there.Load()),
		All:   p.refusedAll.Load(), Each: p.refusedEach.Load(), Rate: p.refusedRate.Load(),
	}
}
