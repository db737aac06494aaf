package auth

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
)

// Kinds of errors of a handshake, by what mends them. Each error of one of them is also an
// ErrUntrusted if the ends do not believe each other.
var (
	ErrAuthority   = errors.New("a certificate is from an authority that the other end does not know")
	ErrName        = errors.New("the server's certificate is for another name")
	ErrKey         = errors.New("an end has another key than the other end knows")
	ErrAuthOnly    = errors.New("the ends do not agree on whether links are encrypted")
	ErrCredentials = errors.New("an end has neither a key nor a certificate")
	ErrEnded       = errors.New("the other end does not authenticate")
)

// meanings translates errors of crypto/tls for the user of this end. What the other end
// reports comes as an alert (RFC 8446, 6.2), a "remote error" here.
type meanings []meaning

type meaning struct {
	says, means string
	kind        error // nil if it is none of the kinds above
}

// ofServers translates errors of a client.
var ofServers = meanings{
	{"remote error: tls: certificate required", "the server takes certificates that are from its authorities, and this client has none", ErrAuthority},
	{"remote error: tls: unknown certificate authority", "the server does not know the authority that this client's certificate is from", ErrAuthority},
	{"remote error: tls: expired certificate", "the server says that this client's certificate has expired, or is not valid yet", nil},
	{"remote error: tls: bad certificate", "the server does not take this client's key or certificate", ErrKey},
	{"x509: certificate has expired or is not yet valid", "the server's certificate has expired, or is not valid yet", nil},
	{"x509: certificate signed by unknown authority", "the server's certificate is from none of our authorities", ErrAuthority},
	{"x509: certificate specifies an incompatible key usage", "the server's certificate is not for servers (extendedKeyUsage)", nil},
	{"x509: certificate is ", otherName, ErrName},
	{"x509: cannot validate certificate for ", otherName, ErrName},
	{"x509: certificate relies on legacy Common Name", otherName, ErrName},
	{"remote error: tls: protocol version not supported", "the server is another program: it has no TLS 1.3", nil},
}

// otherName explains a certificate of another name.
const otherName = "the server's certificate does not have the name or address by which this client knows the server (subjectAltName)"

// wantsAuthOnly explains a disagreement about encryption.
const wantsAuthOnly = "the client wants links that are only authenticated, and this server does not take them"

// ofClients translates errors of a server.
var ofClients = meanings{
	{authenticated[ToServer] + `"]`, wantsAuthOnly, ErrAuthOnly},
	{encrypted[Control] + `"]`, isServer, nil},
	{encrypted[Join] + `"]`, isServer, nil},
	{"client requested unsupported application protocols", "the client is another program", nil},
	{"client didn't provide a certificate", "the client has neither a key nor a certificate that is from one of our authorities", ErrCredentials},
	{"remote error: tls: bad certificate", "the client does not take this server's key or certificate (its authority, its name, its dates); its log has why", ErrKey},
	{"x509: certificate has expired or is not yet valid", "the client's certificate has expired, or is not valid yet", nil},
	{"x509: certificate specifies an incompatible key usage", "the client's certificate is not for clients (extendedKeyUsage)", nil},
	{"x509: certificate signed by unknown authority", "the client's certificate is from none of our authorities", ErrAuthority},
	{"remote error: tls: unknown certificate authority", "the client does not know the authority that this server's certificate is from", ErrAuthority},
}

// isServer explains a server that dials another.
const isServer = "it is a server: this port is for clients, and its address of a client leads here"

// ofDialers returns the translation for an acceptor. If its dialers are servers, the
// roles are swapped.
func ofDialers(toClient bool) meanings {
	if !toClient {
		return ofClients
	}
	return append(meanings{
		{authenticated[ToClient] + `"]`, wantsAuthOnly, ErrAuthOnly},
		{authenticated[ToServer] + `"]`, isServer, nil},
		{encrypted[ToServer] + `"]`, isServer, nil},
	}, ofClients...).swapped()
}

// swapped returns the meanings with the roles of client and server swapped.
func (m meanings) swapped() meanings {
	swap := strings.NewReplacer("server", "client", "client", "server")
	swapped := make(meanings, len(m))
	for i, one := range m {
		swapped[i] = meaning{one.says, swap.Replace(one.means), one.kind}
	}
	return swapped
}

// explain returns err with its meaning in front.
func (m meanings) explain(err error) error {
	if err == nil {
		return nil
	}
	for _, one := range m {
		if strings.Contains(err.Error(), one.says) {
			return &untrusted{fmt.Errorf("%s: %w", one.means, brief{err}), one.kind}
		}
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return &untrusted{brief{err}, nil}
	}
	return brief{err}
}

// untrusted is an ErrUntrusted of a kind.
type untrusted struct {
	error
	kind error
}

// Is reports whether target is ErrUntrusted or the kind.
func (u *untrusted) Is(target error) bool { return target == ErrUntrusted || target == u.kind }

// Unwrap returns the error of crypto/tls.
func (u *untrusted) Unwrap() error { return u.error }

// brief shortens an error of crypto/tls. Some contain what the other end has sent, which
// could fill the log.
type brief struct{ error }

const longestError = 500

func (b brief) Error() string {
	s := b.error.Error()
	if len(s) > longestError {
		s = s[:longestError] + "…"
	}
	return s
}

func (b brief) Unwrap() error { return b.error }

// explain returns an error of Open with its meaning.
func (d *Dialer) explain(err error) error {
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &record):
		return fmt.Errorf("%w: %s does not speak TLS; is it portredirector, with a key or a certificate? %w", ErrEnded, d.them(), err)
	case errors.Is(err, errNoWord):
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("%w: %s ends the link before it has proved who it is; does it have a key or a certificate, and does it allow this machine's address? %w", ErrEnded, d.them(), err)
	}
	m := meanings{{"remote error: tls: no application protocol", "the server is another program or of another version, or waits for servers and not for clients", nil}}
	if d.authOnly {
		m[0].means = "the server does not take links that are only authenticated, or waits for servers and not for clients"
		m[0].kind = ErrAuthOnly
	}
	m = append(m, ofServers...)
	if d.toClient {
		m = m.swapped()
	}
	return m.explain(err)
}

// Texts of DTLS errors about an alert from the other end.
const (
	dtlsBadCertificate = "Alert Fatal: BadCertificate"
	dtlsNoProtocol     = "Alert Fatal: NoApplicationProtocol"
)

// explainDatagram returns an error of a DTLS handshake with its meaning.
func (d *Dialer) explainDatagram(err error) error {
	m := append(meanings{
		{dtlsBadCertificate, "the server does not take this client's key or certificate", ErrKey},
		{dtlsNoProtocol, "the server is another program or of another version, or waits for servers and not for clients", nil},
	}, ofServers...)
	if d.toClient {
		m = m.swapped()
	}
	return m.explain(err)
}

// explainDatagram returns an error of a DTLS handshake with its meaning.
func (a *Acceptor) explainDatagram(err error) error {
	m := append(meanings{
		{dtlsBadCertificate, "the client does not take this server's key or certificate; its log has why", ErrKey},
	}, ofClients...)
	if a.toClient {
		m = m.swapped()
	}
	return m.explain(err)
}

// them returns the role of the other end.
func (d *Dialer) them() string {
	if d.toClient {
		return "the client"
	}
	return "the server"
}

// errNoWord is returned if the word behind the handshake does not come.
var errNoWord = errors.New("wait for the word of the other end")
