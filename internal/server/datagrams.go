package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"portredirector/internal/auth"
	"portredirector/internal/datagram"
	"portredirector/internal/limit"
	"portredirector/internal/ports"
	"portredirector/internal/track"
	"portredirector/internal/wire"
)

// gate implements datagram.Gate by the rules for TCP peers.
type gate struct{ s *Server }

// Datagrams returns the gate for flows.
func (s *Server) Datagrams() datagram.Gate { return gate{s} }

// remoteOf converts the other end of a link.
func remoteOf(r datagram.Remote) *remote {
	from := &remote{addr: r.Addr, still: r.Still}
	if from.authenticated() {
		from.origin = Origin{Key: r.Identity.Key, Name: r.Identity.Name}
	} else {
		from.origin = Origin{Net: limit.SourcePrefix(r.Addr.Addr())}
	}
	return from
}

// AdmitLink returns an error if an authenticated end may not have a UDP link.
func (s *Server) AdmitLink(id auth.Identity) error {
	_, err := s.admitClient(id)
	return err
}

// AllowLink returns an error if an address may not open a link.
func (s *Server) AllowLink(from netip.AddrPort) error { return gate{s}.Allow(from) }

// Allow returns an error if datagrams from an address are refused.
func (g gate) Allow(from netip.AddrPort) error {
	if !g.s.allows(from.Addr()) {
		return ErrNotAllowed
	}
	return nil
}

// Authorize returns an error if a client may not open a flow.
func (g gate) Authorize(h wire.Header, from datagram.Remote) error {
	return g.s.permit(remoteOf(from), h, ports.UDP, g.service(h))
}

func (g gate) service(h wire.Header) Service { return g.s.UDP[h.Destination.Port()] }

// Admit is like Authorize, and returns the target of the flow.
func (g gate) Admit(h wire.Header, from datagram.Remote) (datagram.Target, error) {
	if err := g.Authorize(h, from); err != nil {
		return datagram.Target{}, err
	}
	service := g.service(h)
	addrs, ok, err := g.s.Book.now(service, h.Source.Addr())
	if err != nil {
		return datagram.Target{}, fmt.Errorf("service %s: %w", service, err)
	}
	if !ok {
		return datagram.Target{}, datagram.ErrLater
	}
	to, mark, ready := g.s.FlowRoutes.ReadyFlow(g.s.Book.target(ports.UDP, service, addrs[0]), h.Source.Addr())
	if !ready {
		return datagram.Target{}, datagram.ErrLater
	}
	return g.target(h, to, mark)
}

// target returns the target of a flow, unless the service could not reply.
func (g gate) target(h wire.Header, to netip.AddrPort, mark uint32) (datagram.Target, error) {
	if g.s.Claims != nil {
		if err := g.s.Claims.CheckService(h.Source.Addr(), to.Addr()); err != nil {
			return datagram.Target{}, err
		}
	}
	service := g.service(h)
	return datagram.Target{Name: cmp.Or(service.Name, service.String()), To: to, Mark: mark}, nil
}

// Resolve returns the target of an authorized flow.
func (g gate) Resolve(ctx context.Context, h wire.Header) (datagram.Target, error) {
	ctx, cancel := context.WithTimeout(ctx, g.s.ConnectTimeout)
	defer cancel()
	service := g.service(h)
	addrs, err := g.s.Book.addresses(ctx, service, h.Source.Addr())
	if err != nil {
		return datagram.Target{}, fmt.Errorf("service %s: %w", service, err)
	}
	for _, addr := range addrs {
		to, mark, merr := g.s.FlowRoutes.MarkFlow(ctx, g.s.Book.target(ports.UDP, service, addr), h.Source.Addr())
		if merr == nil {
			return g.target(h, to, mark)
		}
		err = errors.Join(err, fmt.Errorf("%w: %w", errNoRoute, merr))
	}
	return datagram.Target{}, err
}

// Refused logs and counts a refusal.
func (g gate) Refused(h wire.Header, from datagram.Remote, err error) (datagram.Refusal, track.Who) {
	status := statusOf(err)
	why := datagram.Refusal{Status: status}
	if banned, ok := errors.AsType[bannedError](err); ok {
		why.Left = banned.ban.Left()
	}
	who := blame(status)
	r := remoteOf(from)
	count := g.s.refused.of(status)
	switch {
	case errors.Is(err, ErrNotAllowed):
		count = &g.s.refused.allow
	case h == (wire.Header{}):
		count = &g.s.refused.header
	}
	count.Add(1)
	g.s.Tell.Log(slog.LevelWarn, "datagram refused", Subject{r.prefix(), status}, func() []slog.Attr {
		attrs := []slog.Attr{slog.String("link", from.Addr.String()), slog.Any("error", err)}
		if h.Source.IsValid() {
			attrs = slices.Insert(attrs, 0, slog.String("peer", h.Source.String()), slog.String("port", ports.Port{Protocol: ports.UDP, Number: h.Destination.Port()}.String()))
		}
		return attrs
	})
	return why, who
}

// Name returns the name of an authenticated client, or "".
func (g gate) Name(from datagram.Remote) string {
	r := remoteOf(from)
	if !r.authenticated() {
		return ""
	}
	return g.s.nameOf(r.origin)
}
