package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"portredirector/internal/socket"
	"portredirector/internal/wire"
)

// Purpose is what whoever opens a link wants it for.
type Purpose uint8

// The purposes.
const (
	ToServer Purpose = iota // a client's, for a peer
	ToClient                // a server's, for a peer that the client will have
	Control                 // a server's, to be told how many of these to open
	Join                    // a server's whose key is not known yet
)

// What links are called in the negotiation of protocols (RFC 7301), if they are
// encrypted.
var encrypted = [...]string{
	ToServer: "portredirector/1",
	ToClient: "portredirector-back/1",
	Control:  "portredirector-control/1",
	Join:     "portredirector-join/1",
}

// What they are called if they are authenticated and not encrypted.
var authenticated = [...]string{
	ToServer: "portredirector-auth/1",
	ToClient: "portredirector-back-auth/1",
}

// purposeOf is the purpose of a link that is called so, and whether it is only
// authenticated.
func purposeOf(name string) (p Purpose, only bool) {
	if i := slices.Index(authenticated[:], name); i >= 0 {
		return Purpose(i), true //nolint:gosec // an index
	}
	return Purpose(max(0, slices.Index(encrypted[:], name))), false //nolint:gosec // an index
}

// streams reports whether its link carries no peer.
func (p Purpose) streams() bool { return p == Control || p == Join }

// Session is what a handshake leaves.
type Session struct {
	FD        int    // the socket, which whoever has the session owns
	Conn      *Conn  // what is between it and the bytes; nil if the link is only authenticated
	HeaderKey []byte // the secret that authenticates its header, if it is; see header.Seal

	Stream *Stream // in place of all of these, if it is to carry no peer

	Identity Identity

	still func() error
}

// Identity is who is at the other end.
type Identity struct {
	Key  PublicKey // zero if it has a certificate instead
	Name string    // of the certificate
	For  Purpose   // of who opened the link
}

// Still says whether a certificate that was good at the handshake is so now. It is for
// one goroutine at a time.
func (s *Session) Still() error {
	if s.still == nil {
		return nil
	}
	return s.still()
}

// Refusal is the status by which the accepting end says that the link may not be used:
// any but header.Connected.
type Refusal wire.Status

func (r Refusal) Error() string {
	if s := wire.Status(r); s != wire.NotAuthorized {
		return s.String()
	}
	return "its other end does not know this end's key"
}

// Is makes it ErrUntrusted if it is about who this end is.
func (r Refusal) Is(target error) bool {
	return target == ErrUntrusted && wire.Status(r) == wire.NotAuthorized
}

// ErrUntrusted is of ends that do not believe each other. To try again mends nothing, as
// long as nobody gives one of them another key.
var ErrUntrusted = errors.New("the ends of the link do not trust each other")

// macLabel names what the secret of a session is for (RFC 8446, 7.5).
const (
	macLabel  = "EXPORTER-portredirector-header"
	macLength = 32
)

// Dialer opens sessions.
type Dialer struct {
	config   func() *tls.Config
	authOnly bool // authenticate, and do not encrypt
	toClient bool // of a server: the other end is a client
}

// Open makes sure of the other end of a socket, which is connected or is being
// connected, and owns it: with an error it is closed. name is that of the other end, for its
// certificate. It waits until ctx ends.
func (d *Dialer) Open(ctx context.Context, fd int, name string, purpose Purpose) (*Session, error) {
	config := d.config().Clone()
	config.ServerName = name
	config.NextProtos = encrypted[purpose : purpose+1]
	if d.authOnly && !purpose.streams() {
		config.NextProtos = authenticated[purpose : purpose+1]
		// Nothing is kept from those who record it to read it in twenty years.
		config.CurvePreferences = []tls.CurveID{tls.X25519}
	}
	s, err := handshake(ctx, fd, nil, func(w *recordConn) *tls.Conn { return tls.Client(w, config) },
		func(t *tls.Conn, _ Identity) error {
			var b [1]byte
			if _, err := t.Read(b[:]); err != nil {
				return fmt.Errorf("%w: %w", errNoWord, err)
			}
			if s := wire.Status(b[0]); s != wire.Connected {
				return Refusal(s)
			}
			return nil
		})
	return s, d.explain(err)
}

// Acceptor accepts sessions.
type Acceptor struct {
	config   *tls.Config
	toClient bool                                         // of a client: those at the other end are servers
	still    func(chain []*x509.Certificate) func() error // for Session.Still; nil with keys
}

// Accept makes sure of the other end of a socket, and owns it: with an error it is closed.
// said is what was read of it before. judge decides what the other end is told;
// an error is the end of the link. It waits until ctx ends.
func (a *Acceptor) Accept(ctx context.Context, fd int, said []byte, judge func(Identity) (wire.Status, error)) (*Session, error) {
	begin := func(w *recordConn) *tls.Conn {
		w.most = longestHandshake
		return tls.Server(w, a.config)
	}
	var chain []*x509.Certificate
	s, err := handshake(ctx, fd, said, begin,
		func(t *tls.Conn, p Identity) error {
			chain = t.ConnectionState().PeerCertificates
			word, refused := judge(p)
			if refused == nil && t.ConnectionState().NegotiatedProtocol == "" {
				return nil // not one of ours, it waits for no word
			}
			if _, err := t.Write([]byte{byte(word)}); refused == nil {
				return err
			}
			_ = t.CloseWrite()
			return refused
		})
	if err == nil && a.still != nil {
		s.still = a.still(chain)
	}
	return s, ofDialers(a.toClient).explain(err)
}

// handshake does what both have in common. last is the word that follows on the handshake.
func handshake(ctx context.Context, fd int, said []byte, begin func(*recordConn) *tls.Conn, last func(*tls.Conn, Identity) error) (*Session, error) {
	conn := socket.File(fd)
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	w := newRecordConn(conn, said)
	t := begin(w)
	s, err := agree(t, last)
	if err != nil {
		_ = conn.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	if s.Identity.For.streams() {
		w.most = 0
		s.Stream = &Stream{tls: t, conn: conn}
		return s, conn.SetDeadline(time.Time{})
	}
	if s.FD, err = w.detach(); err != nil {
		return nil, err
	}
	if s.HeaderKey == nil {
		s.Conn = &Conn{tls: t, wire: w}
	}
	return s, nil
}

// agree has the handshake, and its last word.
func agree(t *tls.Conn, last func(*tls.Conn, Identity) error) (*Session, error) {
	if err := t.Handshake(); err != nil { //nolint:noctx // the socket has a deadline, see the caller
		return nil, err
	}
	state := t.ConnectionState()
	s := &Session{FD: -1, Identity: peerOf(state)}
	var only bool
	if s.Identity.For, only = purposeOf(state.NegotiatedProtocol); only {
		var err error
		if s.HeaderKey, err = state.ExportKeyingMaterial(macLabel, nil, macLength); err != nil {
			return nil, err
		}
	}
	return s, last(t, s.Identity)
}

// peerOf is who has proved to be at the other end.
func peerOf(state tls.ConnectionState) Identity {
	if len(state.PeerCertificates) == 0 {
		return Identity{}
	}
	cert := state.PeerCertificates[0]
	if k, ok := PublicKeyOf(cert.PublicKey); ok && len(state.VerifiedChains) == 0 {
		return Identity{Key: k}
	}
	return Identity{Name: cert.Subject.String()}
}
