package server

import (
	"container/list"
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"portredirector/internal/header"
	"portredirector/internal/socket"
)

// silents are the links that have said nothing so far. Clients open links ahead of
// need, and such a link looks like one of somebody who wants to use up descriptors. So
// they are bounded, in all and for each client: where there are too many, the oldest
// ends, by an answer after which its client, if it is one, knows that it has delivered
// nothing.
type silents struct {
	mu   sync.Mutex
	all  list.List                   // of *silent, the oldest first; guarded by mu
	of   map[netip.Prefix]*list.List // the same by client; guarded by mu
	told time.Time                   // when the log was told; guarded by mu
}

// silent is a link that has said nothing so far.
type silent struct {
	among  *silents
	client netip.Prefix
	retire func()        // guarded by among.mu
	ended  bool          // it was the oldest of too many; guarded by among.mu
	inAll  *list.Element // nil once it is over; guarded by among.mu
	inOf   *list.Element // guarded by among.mu
}

// tellEvery is how often the log is told.
const tellEvery = time.Minute

// add notes one more, and ends the oldest if it is one too many.
func (ss *silents) add(s *Server, from netip.AddrPort) *silent {
	x := &silent{among: ss, client: clientOf(from.Addr())}
	ss.mu.Lock()
	if ss.of == nil {
		ss.of = make(map[netip.Prefix]*list.List)
	}
	same := ss.of[x.client]
	if same == nil {
		same = list.New()
		ss.of[x.client] = same
	}
	x.inAll, x.inOf = ss.all.PushBack(x), same.PushBack(x)
	retire, tell := func() {}, false
	for _, bound := range []struct {
		among *list.List
		most  int
	}{{same, s.MaxSilentPerClient}, {&ss.all, s.MaxSilent}} {
		if bound.most == 0 || bound.among.Len() <= bound.most {
			continue
		}
		oldest := bound.among.Front().Value.(*silent) //nolint:errcheck,forcetypeassert // there are no others
		if oldest.ended = true; oldest.retire != nil {
			retire = oldest.retire
		}
		oldest.remove()
		tell = time.Since(ss.told) >= tellEvery
		break
	}
	if tell {
		ss.told = time.Now()
	}
	ss.mu.Unlock()
	retire()
	if tell {
		s.Log.Warn("too many links that say nothing, ending the oldest", slog.Any("client", x.client),
			slog.Int("most", s.MaxSilent), slog.Int("most_per_client", s.MaxSilentPerClient))
	}
	return x
}

// dismiss ends a link that has said nothing. In a drain a header may be under way.
// Otherwise there are too many of them, and to wait for one would make it one more.
func (s *Server) dismiss(ctx context.Context, link int) {
	if s.Relay.Draining() {
		farewell(ctx, link, header.Draining)
		return
	}
	_ = socket.Send(link, []byte{byte(header.Draining)})
	socket.Close(link)
}

// clientOf is what counts as one client.
func clientOf(a netip.Addr) netip.Prefix {
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, _ := a.WithZone("").Prefix(bits)
	return p
}

// began gives what ends the link.
func (x *silent) began(retire func()) {
	x.among.mu.Lock()
	ended := x.ended
	x.retire = retire
	x.among.mu.Unlock()
	if ended {
		retire()
	}
}

// over is the end of its silence. It reports whether it was silent until now.
func (x *silent) over() bool {
	x.among.mu.Lock()
	defer x.among.mu.Unlock()
	return x.remove()
}

// remove forgets it, if it is known. The caller holds mu.
func (x *silent) remove() bool {
	if x.inAll == nil {
		return false
	}
	same := x.among.of[x.client]
	x.among.all.Remove(x.inAll)
	same.Remove(x.inOf)
	if same.Len() == 0 {
		delete(x.among.of, x.client)
	}
	x.inAll, x.inOf = nil, nil
	return true
}
