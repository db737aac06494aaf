package limit

import "time"

// recent is how many peers came of late with each key: for each key it has the moment
// at which its bucket of tokens, of one second's worth, will be full again. That is
// all there is to a token bucket (GCRA), and as it is at most a second away, a key can
// be forgotten after that.
//
// So keys are kept in two generations. Once the young are a second old, or many, they
// become the old ones, and the old ones are forgotten. Who comes from so many addresses
// that this happens within the second gets full buckets early, and is stopped by no
// bound on each address anyway.
type recent[K comparable] struct {
	young, old map[K]time.Duration
	turned     time.Duration // when the young were none
}

// generation is how many keys there are in one.
const generation = 8192

// full is when a key's bucket is full. Of a key in both generations the young one is
// right.
func (r *recent[K]) full(k K) time.Duration {
	if t, ok := r.young[k]; ok {
		return t
	}
	return r.old[k]
}

// note sets when a key's bucket is full.
func (r *recent[K]) note(k K, full, now time.Duration) {
	if r.young == nil || len(r.young) >= generation || now >= r.turned+time.Second {
		r.young, r.old, r.turned = r.old, r.young, now
		if clear(r.young); r.young == nil {
			r.young = make(map[K]time.Duration)
		}
	}
	r.young[k] = full
}
