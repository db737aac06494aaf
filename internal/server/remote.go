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
	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/wire"
)

// remote is who has opened a link, or brings peers over one that this server has opened.
type remote struct {
	addr   netip.AddrPort // its end of the link
	origin Origin

	dialed bool // it was this server that opened the link

	proved    bool         // who it is; then origin tells
	still     func() error // whether that holds
	layer     relay.Layer  // of a link that is encrypted
	headerKey []byte       // the key of its header's seal, of one that is only authenticated
}

// prefix returns the network of its address, which stands for a stranger.
func (f *remote) prefix() netip.Prefix { return limit.SourcePrefix(f.addr.Addr()) }

// String is what it is called in the log.
func (f *remote) String() string { return f.addr.String() }

// read reads the header of its link.
func (f *remote) read(r io.Reader) (wire.Header, wire.Form, error) {
	if f.headerKey != nil {
		return wire.ReadSealed(r, f.headerKey)
	}
	return wire.Read(r)
}

// say writes a status to its link.
func (f *remote) say(link int, status wire.Status) error {
	if f.layer == nil {
		return socket.Send(link, []byte{byte(status)})
	}
	_, err := f.layer.Write([]byte{byte(status)})
	return err
}

// sayLast writes a status to its link, and nothing will follow.
func (f *remote) sayLast(link int, status wire.Status) error {
	if err := f.say(link, status); err != nil || f.layer == nil {
		return err
	}
	if err := f.layer.CloseWrite(); err != nil {
		return err
	}
	return f.layer.Flush()
}

// handshake has a link prove who opened it, and then listens to it again.
func (s *Server) handshake(ctx context.Context, link int, said []byte, from *remote, under *limit.Entry[Origin]) {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer s.Relay.OnDrain(func() { time.AfterFunc(lastWords, func() { end(errDraining) }) })()
	session, err := s.Secure.AcceptInSlot(ctx, link, said, under, s.HeaderTimeout, s.judge, nil)
	if err != nil {
		count := &s.refused.proof
		switch {
		case gone(err) || errors.Is(err, errDraining):
			s.Log.Debug("link ended before it proved who it is", slog.String("link", from.addr.String()), slog.Any("error", err))
			return
		case errors.Is(err, ErrUnknownKey):
			count = &s.refused.authorisation
		case errors.Is(err, auth.ErrEvicted):
			count = &s.refused.ended // which Handshakes counts
		}
		s.refuseLink(from, err, count)
		return
	}
	s.listen(session.FD, proved(session, from.addr))
}

// Take serves a link that this server has opened to a client, and owns its socket.
func (s *Server) Take(session *auth.Session, client netip.AddrPort) {
	from := proved(session, client)
	from.dialed = true
	s.listen(session.FD, from)
}

// proved is who has proved who it is.
func proved(session *auth.Session, at netip.AddrPort) *remote {
	f := &remote{
		addr: at, origin: Origin{Key: session.Identity.Key, Name: session.Identity.Name},
		proved: true, still: session.Still, headerKey: session.HeaderKey,
	}
	if session.Conn != nil {
		f.layer = session.Conn
	}
	return f
}

// lastWords is how long a proof may take once there is a drain, which it is not to hold
// up.
const lastWords = 3 * time.Second

// gone reports whether an error is that of a link whose other end is gone, as a client's
// is that ends, or a port probe.
func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// judge says whether one who has proved who it is may open a link at all.
func (s *Server) judge(p auth.Identity) (wire.Status, error) {
	switch {
	case s.Relay.Draining():
		return wire.Draining, errDraining
	case s.Clients != nil && s.Clients()[p.Key] == nil:
		return wire.NotAuthorized, fmt.Errorf("%w: %s", ErrUnknownKey, p.Key)
	}
	return wire.Connected, nil
}

// authorise says whether who opened a link may use it for this peer. What it might when
// it opened the link may not hold any more.
func (s *Server) authorize(from *remote, h wire.Header) error {
	switch {
	case from.proved && s.Clients == nil:
		if err := from.still(); err != nil {
			return fmt.Errorf("%w: %w", errNoLonger, err)
		}
		return nil
	case s.Clients == nil:
		return nil
	}
	client := s.Clients()[from.origin.Key]
	switch {
	case client == nil:
		return fmt.Errorf("%w: %s", ErrUnknownKey, from.origin.Key)
	case !client.MayUse(h.Destination.Port()):
		return fmt.Errorf("client %s: %w: %d", client.Name, ErrPortDenied, h.Destination.Port())
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
