package limit

import "time"

// recent is a token bucket for each key, with tokens for one second. It stores only the
// time at which the bucket is full again (GCRA). That is at most a second away, and then
// the key can be forgotten.
//
// Keys are kept in two generations. Once the young generation is a second old, or large,
// it replaces the old one. A peer with so many addresses that this happens within the
// second gets full buckets early. No bound for each address would stop it anyway.
type recent[K comparable] struct {
	young, old map[K]time.Duration
	turned     time.Duration // when young was empty
}

// generation is the most keys in a generation.
const generation = 8192

// full returns the time at which the bucket of k is full. The young generation takes
// precedence.
func (r *recent[K]) full(k K) time.Duration {
	if t, ok := r.young[k]; ok {
		return t
	}
	return r.old[k]
}

// note sets the time at which the bucket of k is full.
func (r *recent[K]) note(k K, full, now time.Duration) {
	if r.young == nil || len(r.young) >= generation || now >= r.turned+time.Second {
		r.young, r.old, r.turned = r.old, r.young, now
		if clear(r.young); r.young == nil {
			r.young = make(map[K]time.Duration)
		}
	}
	r.young[k] = full
}
