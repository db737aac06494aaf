package datagram

import (
	"errors"
	"hash/maphash"
	"slices"

	"golang.org/x/sys/unix"

	"portredirector/internal/relay"
	"portredirector/internal/track"
	"portredirector/internal/wire"
)

// Request implements Requests.
func (s *Server) Request(link Downlink, id FlowID, h *wire.Header, payload []byte) {
	w := way{link, id}
	f := s.flowOfWay(w)
	var l *loop
	switch {
	case h != nil:
		l = s.loops[maphash.Comparable(s.seed, keyOf(*h))%uint64(len(s.loops))]
	case f != nil:
		l = f.loop
	default:
		link.End(id, Refusal{Status: UnknownFlow})
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = relay.Now()
	if h != nil && (f == nil || f.ended || f.key != keyOf(*h)) {
		if f = s.flowOverLink(l, w, *h); f == nil {
			return
		}
	}
	if f.ended {
		link.End(id, Refusal{Status: UnknownFlow})
		return
	}
	s.used(f)
	f.record.Meter.Count(len(payload), 0)
	if f.held != nil {
		f.hold(payload)
		return
	}
	s.write(f, payload)
}

// write sends one datagram to the service. It tries again after a pending error about an earlier one.
func (s *Server) write(f *flow, payload []byte) {
	_, err := unix.Write(f.fd, payload)
	if errno, ok := errors.AsType[unix.Errno](err); ok && errno != unix.EAGAIN {
		if _, err := unix.Write(f.fd, payload); err != nil || errno == unix.ECONNREFUSED {
			s.failed(f, errno)
		}
	}
}

// flowOfWay returns the flow of a way, or nil.
func (s *Server) flowOfWay(w way) *flow {
	s.linkMu.RLock()
	defer s.linkMu.RUnlock()
	return s.byWay[w]
}

// flowOverLink returns the flow of a header from a link, and begins one if need be. It returns nil if the flow is refused.
func (s *Server) flowOverLink(l *loop, w way, h wire.Header) *flow {
	f := l.table.byKey[keyOf(h)]
	take := func(f *flow) { s.takeLink(f, w) }
	switch {
	case f == nil:
		f, why := s.begin(l, h, w.link.Remote(), take)
		if why != (Refusal{}) {
			w.link.End(w.id, why)
		}
		return f
	case f.down == w.link && f.id == w.id:
		return f
	}
	if why := s.move(f, h, w.link.Remote(), take); why != (Refusal{}) {
		w.link.End(w.id, why)
		return nil
	}
	return f
}

// takeLink sends the answers of a flow over a link. The caller holds the lock of the flow's record, if it has one.
func (s *Server) takeLink(f *flow, w way) {
	s.leaveLink(f)
	s.linkMu.Lock()
	defer s.linkMu.Unlock()
	f.down, f.id, f.hub = w.link, w.id, nil
	s.byWay[w] = f
}

// leaveLink detaches a flow from its link. The caller holds the lock of the flow's record.
func (s *Server) leaveLink(f *flow) {
	s.forgetWay(f)
	f.down, f.id = nil, 0
}

// removed takes a flow that has ended from its link, and cancels its lookup. The record still describes the link.
func (s *Server) removed(f *flow) {
	if f.held != nil {
		f.held.cancel()
		f.held = nil
	}
	s.forgetWay(f)
}

// forgetWay forgets which flow has a way.
func (s *Server) forgetWay(f *flow) {
	s.linkMu.Lock()
	defer s.linkMu.Unlock()
	if w := (way{f.down, f.id}); s.byWay[w] == f {
		delete(s.byWay, w)
	}
}

// Forgotten ends a flow that the client has ended.
func (s *Server) Forgotten(link Downlink, id FlowID) {
	if f := s.flowOfWay(way{link, id}); f != nil {
		f.loop.mu.Lock()
		defer f.loop.mu.Unlock()
		if f.down == link && f.id == id {
			s.finish(f, track.Nobody, nil)
		}
	}
}

// Lost detaches a link's flows. Their answers are dropped until another link brings the next header.
func (s *Server) Lost(link Downlink) {
	for _, l := range s.loops {
		l.mu.Lock()
		for _, f := range l.table.byKey {
			if f.down == link {
				f.record.Update(func() { s.leaveLink(f) })
			}
		}
		l.mu.Unlock()
	}
}

// hold keeps a datagram while the service is looked up. One that is large is dropped.
func (f *flow) hold(payload []byte) {
	if len(f.held.datagrams) < mostHeld && len(payload) <= largestHeld {
		f.held.datagrams = append(f.held.datagrams, slices.Clone(payload))
	}
}
