package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"portredirector/internal/limit"
	"portredirector/internal/ports"
	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/wire"
)

// Handle serves a link that was accepted, and owns it. It is called on a loop of the
// relay, and does not block.
func (s *Server) Handle(link int, from netip.AddrPort) {
	r := &remote{addr: from, origin: Origin{Net: limit.SourcePrefix(from.Addr())}}
	if !s.allows(from.Addr()) {
		socket.Reset(link)
		s.refuseLink(r, ErrNotAllowed, &s.refused.allow)
		return
	}
	s.listen(link, r, nil)
}

// allows reports whether an address may open links.
func (s *Server) allows(a netip.Addr) bool {
	return len(s.Allow) == 0 || slices.ContainsFunc(s.Allow, func(p netip.Prefix) bool { return p.Contains(a.WithZone("")) })
}

// listenAgain returns the OnFree of a link, which waits for the next header unless the link
// is lost. A retired server closes the link, unless a header is there already.
func (s *Server) listenAgain(from *remote) func(link int, said []byte) {
	return func(link int, said []byte) {
		switch {
		case link < 0:
		case s.Relay.Retired() && !s.Relay.Draining() && len(said) == 0:
			s.Relay.Go(func(ctx context.Context) { farewell(ctx, link, from) })
		default:
			s.listen(link, from, said)
		}
	}
}

// listen waits for a header of a link, or for its handshake. said was read from it already.
// LinkIdle bounds the wait if this server has opened the link.
func (s *Server) listen(link int, from *remote, said []byte) {
	among, silence := &s.Unfinished, time.Duration(0)
	switch {
	case from.authenticated():
		among = &s.Known
	case s.Secure != nil:
		silence = s.HeaderTimeout // a client with a key sends its hello at once
	}
	if from.dialed {
		silence = s.LinkIdle
	}
	waits, tooMany := among.Add(from.origin)
	if tooMany {
		s.Tell.Log(slog.LevelWarn, "too many links without a header, closing the oldest", Subject{Net: from.prefix()},
			func() []slog.Attr {
				return []slog.Attr{slog.Int("most", among.Most), slog.Int("most_per_client", among.MostEach)}
			})
	}
	heard := false
	opened := s.Relay.ReadPreface(relay.Preface{
		Accepted: link, Layer: from.layer(), Said: said, IdleTimeout: silence, Timeout: s.HeaderTimeout,
		OnData: func(said []byte) (relay.Next, error) {
			heard = true
			next, err := s.next(said, from)
			if next.Pair != nil || next.HandOver != nil {
				waits.Over()
				if from.dialed && from.carried == 1 { // its first peer
					_ = socket.KeepAlive(link, s.KeepAlive)
				}
			}
			return next, err
		},
		OnIdle: func(ctx context.Context, link int) {
			waits.Over()
			s.dismiss(ctx, link, from)
		},
		OnError: func(err error) {
			waits.Over()
			s.lost(from, err, !heard)
		},
	})
	waits.Began(opened.Expire)
}

// next returns the relay's next step for a link that has sent so much.
func (s *Server) next(said []byte, from *remote) (relay.Next, error) {
	there := bytes.NewReader(said)
	h, form, err := from.read(there)
	hello := errors.Is(err, wire.ErrTLS) && from.carried == 0
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return relay.Next{}, nil // there is more to come
	case hello && s.Secure != nil && !from.authenticated():
		said = bytes.Clone(said)
		// Counted here, because many goroutines may be waiting to run.
		under, _ := s.Handshakes.Add(from.origin)
		return relay.Next{HandOver: func(ctx context.Context, link int) { s.handshake(ctx, link, said, from, under) }}, nil
	case hello:
		return relay.Next{}, ErrNoKey
	case err != nil:
		return relay.Next{}, err
	}
	from.carried++
	c := &conn{server: s, header: h, form: form, from: from, attempt: &attempt{head: bytes.Clone(said[len(said)-there.Len():])}}
	c.service = s.Services[h.Destination.Port()]
	if h.TrialUDP {
		c.service = s.UDP[h.Destination.Port()]
	}
	stranger := s.Secure != nil && !from.authenticated()
	if !stranger { // who could fill the access log with lines of his own
		s.Track.Begin(&c.record, c, c.countedPort())
	}
	switch {
	case stranger:
		return relay.Next{HandOver: func(ctx context.Context, link int) { c.refuse(ctx, link, ErrPlain) }}, nil
	case h.Trial && s.Try != nil:
		size := len(said) - there.Len()
		return relay.Next{HandOver: func(ctx context.Context, link int) { c.trial(ctx, link, size) }}, nil
	case h.Local:
		return relay.Next{HandOver: c.healthCheck}, nil
	case h.Source == from.addr:
		return relay.Next{HandOver: c.ownAddress}, nil
	}
	return c.next()
}

// countedPort returns the port under which the peer is counted. It is 0 without a service, since
// strangers could name all ports.
func (c *conn) countedPort() ports.Port {
	if !c.served() {
		return ports.Port{}
	}
	return ports.Port{Protocol: c.protocol(), Number: c.header.Destination.Port()}
}

// served reports whether the peer's port has a service.
func (c *conn) served() bool { return c.service != Service{} }

// dismiss ends an idle link. In a drain a header may be under way, and the link waits
// for it. Otherwise there are too many links, and waiting would keep one more.
func (s *Server) dismiss(ctx context.Context, link int, from *remote) {
	switch {
	case s.Secure != nil && !from.authenticated():
		socket.Close(link)
	case s.Relay.Retired():
		farewell(ctx, link, from)
	default:
		_ = from.bye(link)
		socket.Close(link)
	}
}

// lost logs the end of a link that waited for a header. A silent one was idle, or is a port
// scan.
func (s *Server) lost(from *remote, err error, silent bool) {
	if silent || errors.Is(err, relay.ErrCut) || errors.Is(err, syscall.ECONNRESET) {
		s.Log.Debug("link ended before its header", slog.String("link", from.addr.String()), slog.Any("error", err))
		return
	}
	count := &s.refused.header
	switch {
	case errors.Is(err, relay.ErrTimeout):
		err = errNoHeader
	case errors.Is(err, wire.ErrSeal):
		count = &s.refused.seal
	case errors.Is(err, wire.ErrFrame):
		count = &s.refused.frame
	case errors.Is(err, relay.ErrExpired):
		count = &s.refused.ended // which Unfinished and Known count
	}
	s.refuseLink(from, err, count)
}

// refuseLink counts and logs a refused link.
func (s *Server) refuseLink(from *remote, err error, count *atomic.Uint64) {
	count.Add(1)
	s.Tell.Log(slog.LevelWarn, "link refused", Subject{Net: from.prefix()}, func() []slog.Attr {
		return []slog.Attr{slog.String("link", from.addr.String()), slog.Any("error", err)}
	})
}
