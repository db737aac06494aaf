package admin

import (
	"sync"
	"time"
)

// rates remembers the byte counts of connections at earlier requests. Without requests it holds nothing.
type rates struct {
	mu           sync.Mutex
	newer, older *sample     // may be nil; guarded by mu
	forget       *time.Timer // guarded by mu
}

// sample holds the byte counts of live connections at one time, by number.
type sample struct {
	at      time.Time
	carried map[uint64]carried
}

// carried counts bytes.
type carried struct{ up, down int64 }

const (
	sampleEvery  = 900 * time.Millisecond // for a caller that asks every second
	forgetSample = time.Minute
)

// since returns the latest sample that is old enough to compare with, or nil.
func (r *rates) since(now time.Time) *sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range []*sample{r.newer, r.older} {
		if s != nil && now.Sub(s.at) >= sampleEvery {
			return s
		}
	}
	return nil
}

// keep stores a sample, unless the last one is too young.
func (r *rates) keep(s *sample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.newer != nil && s.at.Sub(r.newer.at) < sampleEvery {
		return
	}
	r.older, r.newer = r.newer, s
	if r.forget == nil {
		r.forget = time.AfterFunc(forgetSample, r.drop)
	}
	r.forget.Reset(forgetSample)
}

// drop drops all samples.
func (r *rates) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.newer, r.older = nil, nil
}

// rate returns the bytes a second of a connection since the sample. Without an entry there, it
// returns the mean over the life of the connection.
func (s *sample) rate(number uint64, lasted time.Duration, now time.Time, n carried) carried {
	over := max(lasted, time.Second)
	if s != nil {
		if before, there := s.carried[number]; there {
			over = now.Sub(s.at)
			n.up -= before.up
			n.down -= before.down
		}
	}
	return carried{perSecond(n.up, over), perSecond(n.down, over)}
}

// perSecond divides bytes by a time.
func perSecond(n int64, over time.Duration) int64 { return int64(float64(n) / over.Seconds()) }
