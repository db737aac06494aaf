package dtlslink

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/logging"

	"portredirector/internal/auth"
)

const (
	// flightPause is the first retransmission timeout of a flight; it doubles each time.
	flightPause = 400 * time.Millisecond
	// flightSize is the largest datagram of a handshake, without some bytes for heads.
	flightSize = 1100
)

// handshake is the handshake of one link.
type handshake struct {
	own    cid // of the records to this end
	pipe   *pipe
	with   auth.Datagram
	conn   *dtls.Conn
	id     auth.Identity
	still  func() error
	refuse error // the reason for not trusting the other end
}

func newHandshake(with auth.Datagram, write func([]byte)) *handshake {
	h := &handshake{pipe: newPipe(write), with: with}
	_, _ = rand.Read(h.own[:]) // never fails
	return h
}

// dial runs the handshake as the DTLS client.
func (h *handshake) dial(ctx context.Context) (keys, error) {
	conn, err := dtls.ClientWithOptions(h.pipe, pipeAddr, append(clientOptions(h.options(nil)), dtls.WithInsecureSkipVerify(true))...)
	return h.run(ctx, conn, err)
}

// accept runs the handshake as the DTLS server. judge authorizes the other end. The caller
// has verified the other end's address.
func (h *handshake) accept(ctx context.Context, judge func(auth.Identity) error) (keys, error) {
	conn, err := dtls.ServerWithOptions(h.pipe, pipeAddr, append(serverOptions(h.options(judge)),
		dtls.WithClientAuth(dtls.RequireAnyClientCert), dtls.WithInsecureSkipVerifyHello(true))...)
	return h.run(ctx, conn, err)
}

// options returns the options that both roles share. Package auth checks the certificates
// instead of package dtls.
func (h *handshake) options(judge func(auth.Identity) error) []dtls.Option {
	verify := func(raw [][]byte) (err error) {
		if h.id, h.still, err = h.with.Verify(raw); err == nil && judge != nil {
			err = judge(h.id)
		}
		return err
	}
	return []dtls.Option{
		dtls.WithCertificates(h.with.Certificate),
		dtls.WithCipherSuites(suites...),
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
		dtls.WithConnectionIDGenerator(func() []byte { return h.own[:] }),
		dtls.WithSupportedProtocols(h.with.Protocol),
		dtls.WithVerifyPeerCertificate(func(raw [][]byte, _ [][]*x509.Certificate) error {
			h.refuse = verify(raw)
			return h.refuse
		}),
		dtls.WithFlightInterval(flightPause),
		dtls.WithMTU(flightSize),
		dtls.WithLoggerFactory(silent{}),
	}
}

// run runs the handshake of a new connection. On error it releases everything.
func (h *handshake) run(ctx context.Context, conn *dtls.Conn, err error) (k keys, _ error) {
	h.conn = conn
	if err == nil {
		err = conn.HandshakeContext(ctx)
	}
	if err == nil {
		k, err = exportKeys(conn, h.with.Protocol)
	}
	if err == nil {
		return k, nil
	}
	h.end()
	switch {
	case h.refuse != nil:
		err = h.refuse
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	return keys{}, h.with.Explain(err)
}

// end ends the handshake's goroutines. The link lives on.
func (h *handshake) end() {
	_ = h.pipe.Close()
	if h.conn != nil {
		_ = h.conn.Close()
	}
}

var errSlow = errors.New("the other end does not answer")

func clientOptions(options []dtls.Option) (list []dtls.ClientOption) {
	for _, o := range options {
		list = append(list, o)
	}
	return list
}

func serverOptions(options []dtls.Option) (list []dtls.ServerOption) {
	for _, o := range options {
		list = append(list, o)
	}
	return list
}

// silent discards the log of package dtls, because strangers could flood it.
type silent struct{}

func (silent) NewLogger(string) logging.LeveledLogger { return silent{} }

func (silent) Trace(string)          {}
func (silent) Tracef(string, ...any) {}
func (silent) Debug(string)          {}
func (silent) Debugf(string, ...any) {}
func (silent) Info(string)           {}
func (silent) Infof(string, ...any)  {}
func (silent) Warn(string)           {}
func (silent) Warnf(string, ...any)  {}
func (silent) Error(string)          {}
func (silent) Errorf(string, ...any) {}
