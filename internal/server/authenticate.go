package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"syscall"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/limit"
	"portredirector/internal/ports"
	"portredirector/internal/wire"
)

// handshake authenticates a link, and then waits for its header.
func (s *Server) handshake(ctx context.Context, link int, said []byte, from *remote, under *limit.Entry[Origin]) {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer s.Relay.OnDrain(func() { time.AfterFunc(lastWords, func() { end(errDraining) }) })()
	session, err := s.Secure.AcceptInSlot(ctx, link, said, under, s.HeaderTimeout, s.admitClient, nil)
	if err != nil {
		count := &s.refused.proof
		switch {
		case gone(err) || errors.Is(err, errDraining):
			s.Log.Debug("link ended during its handshake", slog.String("link", from.addr.String()), slog.Any("error", err))
			return
		case errors.Is(err, ErrUnknownKey):
			count = &s.refused.authorization
		case errors.Is(err, auth.ErrEvicted):
			count = &s.refused.ended // which Handshakes counts
		}
		s.refuseLink(from, err, count)
		return
	}
	s.listen(session.FD, authenticated(session, from.addr), nil)
}

// Take serves a link that this server has opened to a client, and owns its socket.
func (s *Server) Take(session *auth.Session, client netip.AddrPort) {
	from := authenticated(session, client)
	from.dialed = true
	s.listen(session.FD, from, nil)
}

// authenticated returns the remote of a session.
func authenticated(session *auth.Session, at netip.AddrPort) *remote {
	return &remote{
		addr: at, origin: Origin{Key: session.Identity.Key, Name: session.Identity.Name},
		session: session, still: session.Still,
	}
}

// lastWords bounds a handshake during a drain.
const lastWords = 3 * time.Second

// gone reports whether err means that the other end has closed the link, as a client that
// ends does, or a port scan.
func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// admitClient decides whether an authenticated client may open links, and returns the
// status for it.
func (s *Server) admitClient(p auth.Identity) (wire.Status, error) {
	switch {
	case s.Relay.Draining():
		return wire.Draining, errDraining
	case s.Clients != nil && s.Clients()[p.Key] == nil:
		return wire.NotAuthorized, fmt.Errorf("%w: %s", ErrUnknownKey, p.Key)
	}
	return wire.Connected, nil
}

// authorize returns an error if a client may not bring this peer. Its permissions may have
// changed since it opened the link.
func (s *Server) authorize(from *remote, h wire.Header, protocol ports.Protocol) error {
	switch {
	case from.authenticated() && s.Clients == nil:
		if err := from.still(); err != nil {
			return fmt.Errorf("%w: %w", errNoLonger, err)
		}
		return nil
	case s.Clients == nil:
		return nil
	}
	client := s.Clients()[from.origin.Key]
	port := ports.Port{Protocol: protocol, Number: h.Destination.Port()}
	switch {
	case client == nil:
		return fmt.Errorf("%w: %s", ErrUnknownKey, from.origin.Key)
	case !client.MayUse(port):
		return fmt.Errorf("client %s: %w: %s", client.Name, ErrPortDenied, port)
	case !client.MayClaim(h.Source.Addr()):
		return fmt.Errorf("client %s: %w", client.Name, ErrClaimDenied)
	}
	return nil
}

// Errors of refused links and peers.
var (
	ErrNotAllowed  = errors.New("links from this address are not allowed")
	ErrNoKey       = errors.New("it begins with a TLS hello, and this server has neither a key nor a certificate")
	ErrPlain       = errors.New("it does not authenticate: the client has neither a key nor a certificate, or is another program")
	ErrUnknownKey  = errors.New("the client's key is not known here")
	ErrPortDenied  = errors.New("this client may not use the port")
	ErrClaimDenied = errors.New("this client may not speak for the address")

	errNoHeader = errors.New("no whole header in time")
	errDraining = errors.New("draining")
	errNoLonger = errors.New("its certificate is no longer valid")
)
