package ban

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gaissmai/bart"
)

// table maps prefixes to bans. It is immutable once published.
type table = bart.Table[*Ban]

// List holds bans. Its methods may be called concurrently. The zero value and nil are empty.
type List struct {
	bans    atomic.Pointer[table]
	learned learned

	mu     sync.Mutex         // serializes changes
	purged time.Time          // guarded by mu
	onBan  func(netip.Prefix) // guarded by mu
	never  []netip.Prefix     // guarded by mu
}

// Change lists bans added and prefixes removed.
type Change struct {
	Remove []netip.Prefix `json:",omitempty"`
	Add    []Ban          `json:",omitempty"` // afterwards
}

// Banned returns the ban of an address, without taking a lock.
func (l *List) Banned(a netip.Addr) (Ban, bool) {
	if l == nil {
		return Ban{}, false
	}
	for _, at := range [...]*atomic.Pointer[table]{&l.bans, &l.learned.young, &l.learned.old} {
		if t := at.Load(); t != nil && t.Size() > 0 {
			if b := find(t, a.Unmap().WithZone("")); b != nil {
				return *b, true
			}
		}
	}
	return Ban{}, false
}

// find returns a ban in force that contains an address, or nil.
func find(t *table, a netip.Addr) *Ban {
	b, ok := t.Lookup(a)
	if !ok {
		return nil
	}
	now := time.Now()
	if b.live(now) {
		return b
	}
	for _, b := range t.Supernets(netip.PrefixFrom(a, a.BitLen())) {
		if b.live(now) {
			return b
		}
	}
	return nil
}

// Spare sets prefixes that bans of servers cannot overlap.
func (l *List) Spare(never []netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.never = never
}

// spares reports whether a prefix overlaps one set by Spare.
func (l *List) spares(p netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, spared := overlapping(l.never, p)
	return spared
}

// OnBan sets a function that is called with each prefix that Apply adds. It must not block.
func (l *List) OnBan(f func(netip.Prefix)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onBan = f
}

// purgeEvery is the interval between removals of expired bans.
const purgeEvery = time.Minute

// Apply changes the list. It also forgets learned bans of the removed prefixes.
func (l *List) Apply(c Change) {
	for _, p := range c.Remove {
		l.Forget(p)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tableLocked()
	for _, p := range c.Remove {
		t = t.DeletePersist(p)
	}
	if t.Size() == 0 { // a file may hold very many bans
		t = new(table)
		for i := range c.Add {
			t.Insert(c.Add[i].Prefix, &c.Add[i])
		}
	} else {
		for i := range c.Add {
			t = t.InsertPersist(c.Add[i].Prefix, &c.Add[i])
		}
	}
	now := time.Now()
	if now.Sub(l.purged) >= purgeEvery {
		t, l.purged = purge(t, now), now
	}
	l.bans.Store(t)
	if l.onBan != nil {
		for i := range c.Add {
			l.onBan(c.Add[i].Prefix)
		}
	}
}

// tableLocked returns the table, or an empty one if none is set.
func (l *List) tableLocked() *table {
	if t := l.bans.Load(); t != nil {
		return t
	}
	return new(table)
}

// purge returns a table without the bans that have expired.
func purge(t *table, now time.Time) *table {
	for p, b := range t.All() {
		if !b.live(now) {
			t = t.DeletePersist(p)
		}
	}
	return t
}

// All returns the bans in force, sorted by address, without learned bans.
func (l *List) All() []Ban { return sorted(l.bans.Load()) }

// sorted returns the bans in force of a table.
func sorted(t *table) []Ban {
	if t == nil {
		return nil
	}
	now := time.Now()
	all := make([]Ban, 0, t.Size())
	for _, b := range t.AllSorted() {
		if b.live(now) {
			all = append(all, *b)
		}
	}
	return all
}

// Len returns the numbers of bans and of learned bans. Some may have expired.
func (l *List) Len() (bans, learned int) {
	if t := l.bans.Load(); t != nil {
		bans = t.Size()
	}
	return bans, l.learned.size()
}

// Learned returns the bans in force that were reported by servers.
func (l *List) Learned() []Ban {
	return slices.Concat(sorted(l.learned.young.Load()), sorted(l.learned.old.Load()))
}

// purge removes expired bans.
func (l *List) purge() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.bans.Store(purge(l.tableLocked(), now))
	l.purged = now
}

// covering returns a banned prefix that contains all of p.
func (l *List) covering(p netip.Prefix) (netip.Prefix, bool) {
	if t := l.bans.Load(); t != nil {
		now := time.Now()
		for wider, b := range t.Supernets(p) {
			if b.live(now) {
				return wider, true
			}
		}
	}
	return netip.Prefix{}, false
}
