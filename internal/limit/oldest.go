package limit

import "sync"

// Oldest bounds waiting entries, in all and for each key, and evicts the oldest when
// full: the oldest of the key, or of all. If keys are bounded, too, an eviction from all
// takes the key with the most entries among the oldest few. So whoever fills the room
// loses its own entries. A bound of 0 is none. The fields must be set before the first Add.
type Oldest[K comparable] struct {
	Most     int // in all
	MostEach int // for one key

	mu          sync.Mutex
	all         queue[K]       // guarded by mu
	each        map[K]queue[K] // the same by key, none empty; only if MostEach is set; guarded by mu
	evictedAll  uint64         // guarded by mu
	evictedEach uint64         // guarded by mu
}

// Entry is one waiting entry.
type Entry[K comparable] struct {
	of    *Oldest[K]
	key   K
	in    [2]neighbors[K] // in all and in the queue of its key; guarded by of.mu
	evict func()          // guarded by of.mu
	state state           // guarded by of.mu
}

type state uint8

const (
	waiting state = iota
	over
	evicted
)

// OldestCounts has the number of waiting entries, and of entries evicted by each bound.
type OldestCounts struct {
	Waiting   int
	All, Each uint64
}

// Add adds an entry. It reports whether it has evicted another to make room.
func (o *Oldest[K]) Add(k K) (x *Entry[K], full bool) {
	x = &Entry[K]{of: o, key: k}
	evict, full := o.add(x)
	if evict != nil {
		evict()
	}
	return x, full
}

// add is like Add, and leaves it to the caller to call evict.
func (o *Oldest[K]) add(x *Entry[K]) (evict func(), full bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all.push(x, inAll)
	if o.MostEach > 0 {
		if o.each == nil {
			o.each = make(map[K]queue[K])
		}
		same := o.each[x.key]
		same.push(x, inEach)
		o.each[x.key] = same
		if same.n > o.MostEach {
			o.evictedEach++
			return o.evictLocked(same.first), true
		}
	}
	if o.Most > 0 && o.all.n > o.Most {
		o.evictedAll++
		return o.evictLocked(o.greediestLocked()), true
	}
	return nil, false
}

// lookedAt is the number of the oldest entries that greediestLocked compares.
const lookedAt = 16

// greediestLocked returns, of the oldest few entries, the one whose key has the most
// entries, and of equals the oldest.
func (o *Oldest[K]) greediestLocked() *Entry[K] {
	found, most := o.all.first, 0
	if o.MostEach == 0 {
		return found
	}
	for x, n := o.all.first, 0; x != nil && n < lookedAt; x, n = x.in[inAll].newer, n+1 {
		if has := o.each[x.key].n; has > most {
			found, most = x, has
		}
	}
	return found
}

// evictLocked removes an entry. It returns the function that the caller must call, or nil.
func (o *Oldest[K]) evictLocked(x *Entry[K]) (evict func()) {
	evict = x.evict
	o.removeLocked(x, evicted)
	return evict
}

// removeLocked removes a waiting entry.
func (o *Oldest[K]) removeLocked(x *Entry[K], s state) {
	o.all.remove(x, inAll)
	if o.MostEach > 0 {
		same := o.each[x.key]
		if same.remove(x, inEach); same.n > 0 {
			o.each[x.key] = same
		} else {
			delete(o.each, x.key)
		}
	}
	x.state, x.evict = s, nil
}

// Began sets the function that evicts the entry. It is called at once if the entry is
// evicted already. It is called without a lock, by the caller of Add, and at most once.
func (x *Entry[K]) Began(evict func()) {
	x.of.mu.Lock()
	s := x.state
	if s == waiting {
		x.evict = evict
	}
	x.of.mu.Unlock()
	if s == evicted {
		evict()
	}
}

// Over removes the entry. It reports whether it was waiting until now.
func (x *Entry[K]) Over() (was bool) {
	x.of.mu.Lock()
	defer x.of.mu.Unlock()
	if x.state != waiting {
		return false
	}
	x.of.removeLocked(x, over)
	return true
}

// Counts returns the counts so far.
func (o *Oldest[K]) Counts() OldestCounts {
	o.mu.Lock()
	defer o.mu.Unlock()
	return OldestCounts{Waiting: o.all.n, All: o.evictedAll, Each: o.evictedEach}
}
