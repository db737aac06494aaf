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

// Purpose says why an end opens a link.
type Purpose uint8

// The purposes of links.
const (
	ToServer Purpose = iota // a client's, for a peer
	ToClient                // a server's, for a peer that the client will have
	Control                 // a server's, to be told how many of these to open
	Join                    // a server's whose key is not known yet
)

// encrypted holds the protocol names (ALPN, RFC 7301) of encrypted links.
var encrypted = [...]string{
	ToServer: "portredirector/1",
	ToClient: "portredirector-back/1",
	Control:  "portredirector-control/1",
	Join:     "portredirector-join/1",
}

// authenticated holds the protocol names of links that are authenticated and not
// encrypted.
var authenticated = [...]string{
	ToServer: "portredirector-auth/1",
	ToClient: "portredirector-back-auth/1",
}

// purposeOf returns the purpose behind a protocol name, and whether the link is only
// authenticated.
func purposeOf(name string) (p Purpose, only bool) {
	if i := slices.Index(authenticated[:], name); i >= 0 {
		return Purpose(i), true //nolint:gosec // an index
	}
	return Purpose(max(0, slices.Index(encrypted[:], name))), false //nolint:gosec // an index
}

// streams reports whether the link carries no peer.
func (p Purpose) streams() bool { return p == Control || p == Join }

// Session is the result of a handshake.
type Session struct {
	FD        int    // the socket, owned by the holder of the session
	Conn      *Conn  // of an encrypted link; nil if the link is only authenticated
	HeaderKey []byte // the key for wire.Seal, if the link is only authenticated

	Stream *Stream // in place of the fields above, if the link carries no peer

	Identity Identity

	still func() error
}

// Identity identifies the other end.
type Identity struct {
	Key  PublicKey // zero if it has a certificate instead
	Name string    // of the certificate
	For  Purpose   // of the end that opened the link
}

// String returns the name of the certificate, or the key.
func (i Identity) String() string {
	if i.Key == (PublicKey{}) {
		return i.Name
	}
	return i.Key.String()
}

// Still returns an error if a certificate that was valid at the handshake is not valid any
// more. It is for one goroutine at a time.
func (s *Session) Still() error {
	if s.still == nil {
		return nil
	}
	return s.still()
}

// Refusal is the status by which the accepting end refuses a link: any but wire.Connected.
type Refusal wire.Status

func (r Refusal) Error() string {
	if s := wire.Status(r); s != wire.NotAuthorized {
		return s.String()
	}
	return "its other end does not know this end's key"
}

// Is reports whether target is ErrUntrusted and the status is about this end's identity.
func (r Refusal) Is(target error) bool {
	return target == ErrUntrusted && wire.Status(r) == wire.NotAuthorized
}

// ErrUntrusted is returned if the ends do not trust each other. Retrying does not help
// until somebody changes the keys.
var ErrUntrusted = errors.New("the ends of the link do not trust each other")

// macLabel names the exported secret of a session (RFC 8446, 7.5).
const (
	macLabel  = "EXPORTER-portredirector-header"
	macLength = 32
)

// Dialer opens sessions.
type Dialer struct {
	config   func() *tls.Config
	authOnly bool                                         // authenticate without encryption
	toClient bool                                         // the other end is a client
	still    func(chain []*x509.Certificate) func() error // for Session.Still; nil with keys
}

// Open authenticates the other end of a socket, which is connected or connecting. It owns
// the socket, and closes it on error. The certificate of the other end must be for name.
// Open blocks until ctx ends.
func (d *Dialer) Open(ctx context.Context, fd int, name string, purpose Purpose) (*Session, error) {
	config := d.config().Clone()
	config.ServerName = name
	config.NextProtos = encrypted[purpose : purpose+1]
	if d.authOnly && !purpose.streams() {
		config.NextProtos = authenticated[purpose : purpose+1]
		// Nothing is kept from those who record it to read it in twenty years.
		config.CurvePreferences = []tls.CurveID{tls.X25519}
	}
	var chain []*x509.Certificate
	s, err := handshake(ctx, fd, nil, func(w *recordConn) *tls.Conn { return tls.Client(w, config) },
		func(t *tls.Conn, _ Identity) error {
			chain = t.ConnectionState().PeerCertificates
			var b [1]byte
			if _, err := t.Read(b[:]); err != nil {
				return fmt.Errorf("%w: %w", errNoWord, err)
			}
			if s := wire.Status(b[0]); s != wire.Connected {
				return Refusal(s)
			}
			return nil
		})
	if err == nil && d.still != nil {
		s.still = d.still(chain)
	}
	return s, d.explain(err)
}

// Acceptor accepts sessions.
type Acceptor struct {
	config   *tls.Config
	toClient bool                                         // the other ends are servers
	still    func(chain []*x509.Certificate) func() error // for Session.Still; nil with keys
}

// Accept authenticates the other end of a socket. It owns the socket, and closes it on
// error. said holds the bytes that were read from it before. judge returns the status for
// the other end, or an error that ends the link. Accept blocks until ctx ends.
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
				return nil // another program, which waits for no status
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

// handshake runs a handshake. last exchanges the status after it.
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

// agree runs the handshake, and last after it.
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

// peerOf returns the identity that the other end has proved.
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
