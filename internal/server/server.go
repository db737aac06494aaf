package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/limit"
	"portredirector/internal/logging"
	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/wire"
)

// Server is the server's end of any number of links. Its fields must be set
// before the first Handle.
type Server struct {
	Services map[uint16]Service // by the port that peers connect to
	Book     Book
	Dialer   *socket.TransparentDialer
	Relay    *relay.Engine
	Routes   Routes
	Log      *slog.Logger

	// Who may open a link, and for whom it may speak: see also [Server.authorize].
	Allow   []netip.Prefix      // from where; none is anywhere
	Secure  *auth.Acceptor      // makes sure of who it is; nil takes links from anybody
	Clients func() auth.Clients // those who may, by key; nil is everybody with a certificate
	Claims  Claims              // nil is anybody

	KeepAlive      net.KeepAliveConfig // of links that this server has opened, once they have a peer
	HeaderTimeout  time.Duration       // for the whole header, once it has begun, and for proving who one is
	ConnectTimeout time.Duration       // for reaching the service, names included

	// Links of which little is known cost descriptors, and may be bounded. Clients open
	// links ahead of need, which say nothing until a peer comes; so of those that have yet
	// to bring a header the oldest ends, by an answer after which its client, if it is
	// one, knows that it has delivered nothing.
	Unfinished limit.Oldest[Origin] // have yet to say what they want; with Secure, to begin to prove who they are
	Handshakes limit.Oldest[Origin] // are proving it
	Known      limit.Oldest[Origin] // have proved it, and have yet to bring a header
	Farewells  limit.Oldest[Origin] // were refused, and are kept for a moment so that the answer arrives
	Peers      limit.Peers[Origin]

	Tell    logging.Throttle[Subject] // for what strangers can cause
	refused refusals
}

// Subject is what events that are alike are about.
type Subject struct {
	Net    netip.Prefix // where who caused it is
	Status wire.Status  // of a peer that was refused
}

func (s Subject) String() string { return s.Net.String() }

// Origin is what counts as one client: its key, its certificate, or where it is.
type Origin struct {
	Net  netip.Prefix
	Key  auth.PublicKey
	Name string
}

// Routes are the return routes. A *returnroute.Manager is that.
type Routes interface {
	// Ready gives the mark of a dial to a service, if its return route is there.
	Ready(service netip.AddrPort) (mark uint32, ok bool)
	// Mark does so too, and sees to the return route first.
	Mark(ctx context.Context, service netip.AddrPort) (mark uint32, err error)
}

// Claims decides which peers a link may speak for. A *claim.Policy does.
type Claims interface {
	// Check returns an error if nobody may claim an address.
	Check(claim netip.Addr) error
	// CheckService returns an error if a service could not reply to a claim. It does not
	// block.
	CheckService(claim, service netip.Addr) error
}

// Handle serves a link that was accepted, and owns it. It is called on a loop of
// the relay, and does not wait.
func (s *Server) Handle(link int, from netip.AddrPort) {
	who := &remote{addr: from, origin: Origin{Net: limit.SourcePrefix(from.Addr())}}
	if len(s.Allow) > 0 && !slices.ContainsFunc(s.Allow, func(p netip.Prefix) bool { return p.Contains(from.Addr().WithZone("")) }) {
		socket.Reset(link)
		s.refuseLink(who, ErrNotAllowed, &s.refused.allow)
		return
	}
	s.listen(link, who)
}

// listen hears what a link says first.
func (s *Server) listen(link int, from *remote) {
	among, silence := &s.Unfinished, time.Duration(0)
	switch {
	case from.proved:
		among = &s.Known
	case s.Secure != nil:
		silence = s.HeaderTimeout // whoever has a key says hello at once
	}
	waits, tooMany := among.Add(from.origin)
	if tooMany {
		s.Tell.Log(slog.LevelWarn, "too many links that have not said what they want, ending the oldest", Subject{Net: from.prefix()},
			func() []slog.Attr {
				return []slog.Attr{slog.Int("most", among.Most), slog.Int("most_per_client", among.MostEach)}
			})
	}
	heard := false
	opened := s.Relay.ReadPreface(relay.Preface{
		Accepted: link, Layer: from.layer, IdleTimeout: silence, Timeout: s.HeaderTimeout,
		OnData: func(said []byte) (relay.Next, error) {
			heard = true
			next, err := s.next(said, from)
			if next.Pair != nil || next.HandOver != nil {
				waits.Over()
				if from.dialed {
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

// next says what becomes of a link that has said so much.
func (s *Server) next(said []byte, from *remote) (relay.Next, error) {
	there := bytes.NewReader(said)
	h, form, err := from.read(there)
	hello := errors.Is(err, wire.ErrTLS)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return relay.Next{}, nil // there is more to come
	case hello && s.Secure != nil && !from.proved:
		said = bytes.Clone(said)
		// Noted here and not on the goroutine, of which there could be many that have yet to run.
		under, _ := s.Handshakes.Add(from.origin)
		return relay.Next{HandOver: func(ctx context.Context, link int) { s.handshake(ctx, link, said, from, under) }}, nil
	case hello:
		return relay.Next{}, ErrNoKey
	case err != nil:
		return relay.Next{}, err
	}
	c := &conn{server: s, header: h, form: form, from: from, head: bytes.Clone(said[len(said)-there.Len():])}
	switch {
	case s.Secure != nil && !from.proved:
		return relay.Next{HandOver: func(ctx context.Context, link int) { c.refuse(ctx, link, ErrPlain) }}, nil
	case h.Local:
		return relay.Next{HandOver: c.healthCheck}, nil
	case h.Source == from.addr:
		return relay.Next{HandOver: c.ownAddress}, nil
	}
	return c.next()
}

// dismiss ends a link that has said nothing. In a drain a header may be under way.
// Otherwise there are too many of them, and to wait for one would make it one more.
func (s *Server) dismiss(ctx context.Context, link int, from *remote) {
	switch {
	case s.Secure != nil && !from.proved:
		socket.Close(link)
	case s.Relay.Draining():
		farewell(ctx, link, from, wire.Draining)
	default:
		_ = from.sayLast(link, wire.Draining)
		socket.Close(link)
	}
}

// lost tells of a link that brought no header. One that ends in silence is of a pool, or
// an ordinary port probe.
func (s *Server) lost(from *remote, err error, silent bool) {
	if silent || errors.Is(err, relay.ErrCut) || errors.Is(err, syscall.ECONNRESET) {
		s.Log.Debug("link ended before it brought a header", slog.String("link", from.addr.String()), slog.Any("error", err))
		return
	}
	count := &s.refused.header
	switch {
	case errors.Is(err, relay.ErrTimeout):
		err = errNoHeader
	case errors.Is(err, wire.ErrSeal):
		count = &s.refused.seal
	case errors.Is(err, relay.ErrExpired):
		count = &s.refused.ended // which Unfinished and Known count
	}
	s.refuseLink(from, err, count)
}

// refuseLink counts and tells that a link was refused.
func (s *Server) refuseLink(from *remote, err error, count *atomic.Uint64) {
	count.Add(1)
	s.Tell.Log(slog.LevelWarn, "link refused", Subject{Net: from.prefix()}, func() []slog.Attr {
		return []slog.Attr{slog.String("link", from.addr.String()), slog.Any("error", err)}
	})
}
