package ban

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"portredirector/internal/wire"
)

// learned holds bans reported by servers, in two generations. When the young one is a minute old
// or full, it replaces the old one. So no ban outlives two generations.
type learned struct {
	young, old atomic.Pointer[table]

	mu     sync.Mutex // serializes changes
	turned time.Time  // start of the young generation; guarded by mu
}

// mostLearned is the most bans in a generation.
const mostLearned = 32 << 10

// The shortest prefixes that a client accepts from a server. They are narrow, because a learned ban holds for all servers.
const (
	shortest4 = 24
	shortest6 = 56
)

// Learn records that a server has banned the prefix of a peer with that many bits. The ban
// lasts for a minute at most.
func (l *List) Learn(peer netip.Addr, said wire.Ban) {
	peer = peer.Unmap().WithZone("")
	shortest := shortest6
	if peer.Is4() {
		shortest = shortest4
	}
	p, err := peer.Prefix(min(max(said.Bits, shortest), peer.BitLen()))
	if err != nil || said.Left <= 0 || l.spares(p) {
		return
	}
	now := time.Now().Round(0)
	l.learned.add(&Ban{Prefix: p, Since: now, Until: now.Add(min(said.Left, wire.MaxBan)), From: FromServer}, now)
}

// add adds a ban.
func (m *learned) add(b *Ban, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.young.Load()
	if t == nil || t.Size() >= mostLearned || now.Sub(m.turned) >= wire.MaxBan {
		m.old.Store(t)
		t, m.turned = new(table), now
	}
	m.young.Store(t.InsertPersist(b.Prefix, b))
}

// Forget removes all learned bans that overlap a prefix.
func (l *List) Forget(p netip.Prefix) (n int) {
	m := &l.learned
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, at := range []*atomic.Pointer[table]{&m.young, &m.old} {
		t := at.Load()
		if t == nil {
			continue
		}
		for learned, b := range t.All() {
			if learned.Overlaps(p) {
				t = t.DeletePersist(learned)
				if b.live(time.Now()) {
					n++
				}
			}
		}
		at.Store(t)
	}
	return n
}

// size returns the number of bans.
func (m *learned) size() (n int) {
	for _, at := range []*atomic.Pointer[table]{&m.young, &m.old} {
		if t := at.Load(); t != nil {
			n += t.Size()
		}
	}
	return n
}
