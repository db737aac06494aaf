package limit

import "sync"

// Oldest is a registry of things that wait, and may do so for as long as there are not
// too many, in all and with each key: where one is too many the oldest ends, of its key,
// or of all. Where it is of all, and keys are bounded, those of the key that has most
// end first, as far as the oldest few tell: so who takes all the room ends its own, and
// not those of others. A bound of 0 is none. The fields must be set before the first Add.
type Oldest[K comparable] struct {
	Most     int // in all
	MostEach int // with one key

	mu        sync.Mutex
	all       queue[K]       // guarded by mu
	each      map[K]queue[K] // the same by key, none empty; only if MostEach is set; guarded by mu
	endedAll  uint64         // guarded by mu
	endedEach uint64         // guarded by mu
}

// Entry is one thing that waits.
type Entry[K comparable] struct {
	among *Oldest[K]
	key   K
	in    [2]neighbours[K] // in all and in its key's queue; guarded by among.mu
	end   func()           // guarded by among.mu
	state state            // guarded by among.mu
}

type state uint8

const (
	waiting state = iota
	gone
	expelled // it was the oldest of too many
)

// OldestCounts are how many wait, and how many were ended by each bound.
type OldestCounts struct {
	Waiting   int
	All, Each uint64
}

// Add notes one more. If that is one too many it ends the oldest, and says so.
func (o *Oldest[K]) Add(k K) (x *Entry[K], ended bool) {
	x = &Entry[K]{among: o, key: k}
	end, ended := o.add(x)
	if end != nil {
		end()
	}
	return x, ended
}

// add does what Add does, but for calling what ends the oldest.
func (o *Oldest[K]) add(x *Entry[K]) (end func(), ended bool) {
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
			o.endedEach++
			return o.expel(same.first), true
		}
	}
	if o.Most > 0 && o.all.n > o.Most {
		o.endedAll++
		return o.expel(o.greediest()), true
	}
	return nil, false
}

// looked is how many of the oldest are looked at for the key that has most.
const looked = 16

// greediest is the one of the oldest few whose key has most; of equals the oldest. The
// caller holds mu.
func (o *Oldest[K]) greediest() *Entry[K] {
	found, most := o.all.first, 0
	if o.MostEach == 0 {
		return found
	}
	for x, n := o.all.first, 0; x != nil && n < looked; x, n = x.in[inAll].newer, n+1 {
		if has := o.each[x.key].n; has > most {
			found, most = x, has
		}
	}
	return found
}

// expel removes an entry, and returns what ends it, if that is known already. The
// caller holds mu.
func (o *Oldest[K]) expel(x *Entry[K]) (end func()) {
	end = x.end
	o.remove(x, expelled)
	return end
}

// remove takes out an entry that waits. The caller holds mu.
func (o *Oldest[K]) remove(x *Entry[K], s state) {
	o.all.remove(x, inAll)
	if o.MostEach > 0 {
		same := o.each[x.key]
		if same.remove(x, inEach); same.n > 0 {
			o.each[x.key] = same
		} else {
			delete(o.each, x.key)
		}
	}
	x.state, x.end = s, nil
}

// Began gives what ends it, which is called at once if it was to end already. It is
// called without a lock, by whoever adds one too many, and at most once.
func (x *Entry[K]) Began(end func()) {
	x.among.mu.Lock()
	s := x.state
	if s == waiting {
		x.end = end
	}
	x.among.mu.Unlock()
	if s == expelled {
		end()
	}
}

// Over is the end of its waiting. It reports whether it waited until now.
func (x *Entry[K]) Over() (was bool) {
	x.among.mu.Lock()
	defer x.among.mu.Unlock()
	if x.state != waiting {
		return false
	}
	x.among.remove(x, gone)
	return true
}

// Counts tells how many wait, and were ended.
func (o *Oldest[K]) Counts() OldestCounts {
	o.mu.Lock()
	defer o.mu.Unlock()
	return OldestCounts{Waiting: o.all.n, All: o.endedAll, Each: o.endedEach}
}
