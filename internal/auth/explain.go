package auth

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
)

// What crypto/tls says, and what it means to whoever runs this end. What the other end
// says comes as an alert (RFC 8446, 6.2), and is a "remote error" here.
type meanings []struct{ says, means string }

// ofServers are those of a client.
var ofServers = meanings{
	{"remote error: tls: certificate required", "the server takes certificates that are from its authorities (--tls-ca there), and this client has none"},
	{"remote error: tls: unknown certificate authority", "the server does not know the authority that this client's certificate is from (--tls-ca there)"},
	{"remote error: tls: expired certificate", "the server says that this client's certificate has expired, or is not valid yet"},
	{"remote error: tls: bad certificate", "the server does not take this client's key or certificate"},
	{"x509: certificate has expired or is not yet valid", "the server's certificate has expired, or is not valid yet"},
	{"x509: certificate signed by unknown authority", "the server's certificate is from none of our authorities (--tls-ca)"},
	{"x509: certificate specifies an incompatible key usage", "the server's certificate is not for servers (extendedKeyUsage)"},
	{"x509: certificate is ", otherName},
	{"x509: cannot validate certificate for ", otherName},
	{"x509: certificate relies on legacy Common Name", otherName},
	{"remote error: tls: protocol version not supported", "the server is none of ours: it has no TLS 1.3"},
}

// otherName is a certificate that stands for somebody else.
const otherName = "the server's certificate does not have the name or address of -c (subjectAltName)"

// ofClients are those of a server.
var ofClients = meanings{
	{authenticated[ToServer] + `"]`, "the client wants links that are only authenticated (--auth-only), and this server does not take them (--auth-only here, too)"},
	{encrypted[Control] + `"]`, isServer},
	{encrypted[Join] + `"]`, isServer},
	{"client requested unsupported application protocols", "the client is none of ours"},
	{"client didn't provide a certificate", "the client has neither a key (--key) nor a certificate that is from one of our authorities (--tls-ca)"},
	{"remote error: tls: bad certificate", "the client does not take this server's key (--server-key there) or certificate (--tls-ca there, its name, its dates); its log has why"},
	{"x509: certificate has expired or is not yet valid", "the client's certificate has expired, or is not valid yet"},
	{"x509: certificate specifies an incompatible key usage", "the client's certificate is not for clients (extendedKeyUsage)"},
	{"remote error: tls: unknown certificate authority", "the client does not know the authority that this server's certificate is from (--tls-ca there)"},
}

// isServer is a server that dials another.
const isServer = "it is a server: this port is for clients, whose -c leads here"

// ofDialers are those of an acceptor. The dialling ends of one that is back are servers:
// all is said the other way round then.
func ofDialers(back bool) meanings {
	if !back {
		return ofClients
	}
	return append(meanings{
		{authenticated[ToClient] + `"]`, "the client wants links that are only authenticated (--auth-only), and this server does not take them (--auth-only here, too)"},
		{authenticated[ToServer] + `"]`, isServer},
		{encrypted[ToServer] + `"]`, isServer},
	}, ofClients...).turned()
}

// turned are the meanings where it is the server that dials.
func (m meanings) turned() meanings {
	swap := strings.NewReplacer("server", "client", "client", "server")
	turned := make(meanings, len(m))
	for i, one := range m {
		turned[i] = struct{ says, means string }{one.says, swap.Replace(one.means)}
	}
	return turned
}

// explain says what an error means, in front of it.
func (m meanings) explain(err error) error {
	for _, one := range m {
		if err != nil && strings.Contains(err.Error(), one.says) {
			return untrusted{fmt.Errorf("%s: %w", one.means, brief{err})}
		}
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return untrusted{brief{err}}
	}
	if err == nil {
		return nil
	}
	return brief{err}
}

// untrusted is an error that is ErrUntrusted.
type untrusted struct{ error }

func (u untrusted) Is(target error) bool { return target == ErrUntrusted }
func (u untrusted) Unwrap() error        { return u.error }

// brief is an error of crypto/tls, some of which say what the other end has said, however
// long that is: it could fill the log by it.
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

// explain says what an error at opening a session means.
func (d *Dialer) explain(err error) error {
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &record):
		return fmt.Errorf("%s does not speak TLS: is it one of ours, with a key (--key) or a certificate (--tls-cert)? %w", d.them(), err)
	case errors.Is(err, errNoWord):
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("%s ends the link before it has proved who it is: "+
			"does it have a key (--key) or a certificate (--tls-cert), and this machine's address, if it has --allow? %w", d.them(), err)
	}
	m := meanings{{"remote error: tls: no application protocol", "the server is none of ours, or of another version, or waits for servers and not for clients"}}
	if d.authOnly {
		m[0].means = "the server does not take links that are only authenticated (--auth-only there, too), or waits for servers and not for clients"
	}
	m = append(m, ofServers...)
	if d.toClient {
		m = m.turned()
	}
	return m.explain(err)
}

// them is the other end.
func (d *Dialer) them() string {
	if d.toClient {
		return "the client"
	}
	return "the server"
}

// errNoWord is the want of the word behind the handshake.
var errNoWord = errors.New("wait for the word of the other end")
