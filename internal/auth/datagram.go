package auth

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// datagrams holds the protocol names (ALPN) of DTLS links. These are always encrypted.
var datagrams = [...]string{
	ToServer: "portredirector-udp/1",
	ToClient: "portredirector-back-udp/1",
}

// Datagram holds the parts of a Dialer or an Acceptor that a DTLS handshake needs.
type Datagram struct {
	Certificate tls.Certificate
	Protocol    string // the ALPN name
	// Verify checks the certificates of the other end as received. still is like
	// [Session.Still], and nil with keys.
	Verify func(chain [][]byte) (id Identity, still func() error, err error)
	// Explain returns the error of a handshake with its meaning prepended.
	Explain func(error) error
}

// Datagram returns the settings for a handshake with the end called name.
func (d *Dialer) Datagram(name string, purpose Purpose) Datagram {
	c := d.config()
	return Datagram{
		Certificate: c.Certificates[0], Protocol: datagrams[purpose], Explain: d.explainDatagram,
		Verify: verifier(purpose, d.still, c.VerifyConnection, x509.VerifyOptions{
			Roots: c.RootCAs, DNSName: name, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}),
	}
}

// Datagram returns the settings for a handshake with any other end.
func (a *Acceptor) Datagram() (Datagram, error) {
	c := a.config
	if c.GetConfigForClient != nil {
		var err error
		if c, err = c.GetConfigForClient(nil); err != nil {
			return Datagram{}, err
		}
	}
	purpose := ToServer
	if a.toClient {
		purpose = ToClient
	}
	return Datagram{
		Certificate: c.Certificates[0], Protocol: datagrams[purpose], Explain: a.explainDatagram,
		Verify: verifier(purpose, a.still, c.VerifyConnection, x509.VerifyOptions{
			Roots: c.ClientCAs, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}),
	}, nil
}

// verifier returns Datagram.Verify. With keys (still is nil) ofKey checks the certificate.
// Otherwise options decide.
func verifier(purpose Purpose, still func([]*x509.Certificate) func() error,
	ofKey func(tls.ConnectionState) error, options x509.VerifyOptions,
) func([][]byte) (Identity, func() error, error) {
	return func(raw [][]byte) (Identity, func() error, error) {
		chain, err := parseChain(raw)
		if err != nil {
			return Identity{}, nil, err
		}
		state := tls.ConnectionState{PeerCertificates: chain}
		if still == nil {
			err = ofKey(state)
		} else {
			options.Intermediates = x509.NewCertPool()
			for _, c := range chain[1:] {
				options.Intermediates.AddCert(c)
			}
			state.VerifiedChains, err = chain[0].Verify(options)
		}
		id := peerOf(state)
		id.For = purpose
		if still == nil || err != nil {
			return id, nil, err
		}
		return id, still(chain), nil
	}
}

// parseChain parses a chain of at least one certificate.
func parseChain(raw [][]byte) (chain []*x509.Certificate, err error) {
	for _, der := range raw {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, errors.New("the other end has no certificate")
	}
	return chain, nil
}
