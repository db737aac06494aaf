// Package server takes links from clients and reaches services with the peers'
// addresses as the source.
//
// A link goes through these steps: its other end may have to authenticate, its header is
// read, the peer is admitted, the service of its port is dialed transparently, and the
// relay gets both sockets. All of this runs on the relay's loops, which never block. A
// handshake, an unknown name, or a missing return route moves the link to a goroutine.
package server

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"portredirector/internal/ports"
	"portredirector/internal/relay"
	"portredirector/internal/track"
	"portredirector/internal/wire"
)

// conn is one peer of a link.
type conn struct {
	server *Server
	header wire.Header
	from   *remote
	form   wire.Form
	inside bool // it is counted in Server.Peers
	record track.Conn

	service Service    // zero if the port has none
	addr    netip.Addr // of the service, the one that is dialed
	port    uint16     // of the source that the service sees; 0 is the claim's

	*attempt // nil while the relay has the peer
}

// attempt holds what is needed until the relay has the peer.
type attempt struct {
	head     []byte       // the bytes that came behind the header
	addrs    []netip.Addr // of the service, not dialed yet
	tried    []netip.Addr // of a name, and failed
	asked    bool         // its name was looked up anew
	deadline time.Time    // of reaching it
}

// Peer returns the address of the peer.
func (c *conn) Peer() netip.AddrPort { return c.header.Source }

// next returns the relay's next step after the header.
func (c *conn) next() (relay.Next, error) {
	err := c.admit()
	var p *relay.Pair
	if err == nil {
		p, err = c.dialNow()
	}
	switch {
	case errors.Is(err, errLater):
		return relay.Next{HandOver: c.resolve}, nil
	case err != nil:
		return relay.Next{HandOver: func(ctx context.Context, link int) { c.refuse(ctx, link, err) }}, nil
	}
	return relay.Next{Pair: p}, nil
}

// admit decides whether the peer may come in.
func (c *conn) admit() error {
	s := c.server
	if err := s.permit(c.from, c.header, ports.TCP, c.service); err != nil {
		return err
	}
	err := s.Peers.Enter(c.from.origin)
	c.inside = err == nil
	return err
}

// permit returns an error if a client may not bring a peer to a service. The service is the zero value if the
// peer's port has none.
func (s *Server) permit(from *remote, h wire.Header, protocol ports.Protocol, service Service) error {
	if s.Relay.Draining() {
		return errDraining
	}
	if err := s.authorize(from, h, protocol); err != nil {
		return err
	}
	if err := s.checkBan(h.Source.Addr()); err != nil {
		return err
	}
	if service == (Service{}) {
		return ErrNoService
	}
	if s.Claims != nil {
		if err := s.Claims.Check(h.Source.Addr()); err != nil {
			return err
		}
	}
	if from.authenticated() || len(s.Allow) > 0 && from.carried == 1 {
		s.clients.note(from.addr.Addr())
	}
	return nil
}

// relay gives both sockets to the relay.
func (c *conn) relay(link int, p *relay.Pair) {
	p.Accepted, p.AcceptedLayer = link, c.from.layer()
	c.server.Relay.Relay(*p)
}

// gone logs the end of a peer.
func (c *conn) gone(r relay.Result) {
	c.leave()
	c.server.Track.End(&c.record, endedBy(r, c.header.Answer), r.Err)
	switch {
	case r.End == relay.Failed:
		c.log(slog.LevelError, "relay failed", slog.Any("error", r.Err))
		return
	case errors.Is(r.Err, wire.ErrFrame):
		c.server.refuseLink(c.from, r.Err, &c.server.refused.frame)
	}
	c.debug("peer gone", slog.Any("result", r))
}

// leave takes the conn out of Server.Peers.
func (c *conn) leave() {
	if c.inside {
		c.inside = false
		c.server.Peers.Leave(c.from.origin)
	}
}

// debug logs events of every peer. It makes attributes only for lines that are written.
func (c *conn) debug(event string, more ...slog.Attr) {
	if log := c.server.Log; log.Enabled(context.Background(), slog.LevelDebug) {
		log.LogAttrs(context.Background(), slog.LevelDebug, event, c.attrs(more)...) //nolint:sloglint // a constant of the callers
	}
}

// log logs an event that strangers can cause as often as they like.
func (c *conn) log(level slog.Level, event string, more ...slog.Attr) {
	c.server.Tell.Log(level, event, Subject{Net: c.from.prefix()}, func() []slog.Attr { return c.attrs(more) })
}

func (c *conn) attrs(more []slog.Attr) []slog.Attr {
	h := c.header
	attrs := []slog.Attr{slog.String("peer", h.Source.String()), slog.Int("port", int(h.Destination.Port()))}
	if name := c.service.Name; name != "" {
		attrs = append(attrs, slog.String("service", name))
	}
	if !h.ID.IsZero() {
		attrs = append(attrs, slog.String("id", h.ID.String()))
	}
	return append(attrs, more...)
}
