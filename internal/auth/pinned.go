package auth

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// DialWithKey opens sessions with servers that have one of the given keys. With authOnly,
// links are authenticated and not encrypted.
func DialWithKey(own PrivateKey, servers []PublicKey, authOnly bool) (*Dialer, error) {
	c, err := dialWithKey(own, "server", func(k PublicKey) bool { return slices.Contains(servers, k) })
	return &Dialer{config: func() *tls.Config { return c }, authOnly: authOnly}, err
}

// DialClients opens sessions with clients that cannot reach this server.
func DialClients(own PrivateKey, known func(PublicKey) bool, authOnly bool) (*Dialer, error) {
	c, err := dialWithKey(own, "client", known)
	return &Dialer{config: func() *tls.Config { return c }, authOnly: authOnly, toClient: true}, err
}

// dialWithKey returns the configuration for dialing known keys. them is the role of the
// other end.
func dialWithKey(own PrivateKey, them string, known func(PublicKey) bool) (*tls.Config, error) {
	cert, err := certificate(own)
	if err != nil {
		return nil, err
	}
	c := base()
	c.Certificates = []tls.Certificate{cert}
	// The certificate only carries a key, which VerifyConnection checks, also if a session is
	// resumed.
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(state tls.ConnectionState) error {
		switch p := peerOf(state); {
		case p.Key == PublicKey{}:
			return &untrusted{fmt.Errorf("the %s has a certificate and no key", them), ErrKey}
		case !known(p.Key):
			return &untrusted{fmt.Errorf("the %s has another key than is known here: %s; compare it with the key in its log, or join again", them, p.Key), ErrKey}
		}
		return nil
	}
	// A resumed session saves both signatures, and still agrees on a new key (RFC 8446, 4.2.9,
	// psk_dhe_ke). The ticket comes before the status of the other end.
	c.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	c.SessionTicketsDisabled = false
	return c, nil
}

// AcceptWithKey accepts sessions with clients that have a key, known or not: the caller of
// Accept decides. With alsoOnly, clients may ask for links that are authenticated and not
// encrypted.
func AcceptWithKey(own PrivateKey, alsoOnly bool) (*Acceptor, error) {
	c, err := acceptWithKey(own, "client", alsoOnly, ToServer)
	return &Acceptor{config: c}, err
}

// AcceptServers accepts sessions with servers that this client cannot reach.
func AcceptServers(own PrivateKey, alsoOnly bool) (*Acceptor, error) {
	c, err := acceptWithKey(own, "server", alsoOnly, ToClient, Control, Join)
	return &Acceptor{config: c, toClient: true}, err
}

// acceptWithKey returns the configuration for accepting sessions of some purposes. them is
// the role of the other end.
func acceptWithKey(own PrivateKey, them string, alsoOnly bool, purposes ...Purpose) (*tls.Config, error) {
	cert, err := certificate(own)
	if err != nil {
		return nil, err
	}
	c := base()
	c.Certificates = []tls.Certificate{cert}
	c.ClientAuth = tls.RequireAnyClientCert
	c.VerifyConnection = func(state tls.ConnectionState) error {
		if _, ok := PublicKeyOf(state.PeerCertificates[0].PublicKey); !ok {
			return fmt.Errorf("the %s's key is of another kind", them)
		}
		return nil
	}
	c.SessionTicketsDisabled = false
	for _, p := range purposes {
		c.NextProtos = append(c.NextProtos, encrypted[p])
		if alsoOnly && !p.streams() {
			c.NextProtos = append(c.NextProtos, authenticated[p])
		}
	}
	return c, nil
}

// base returns the configuration that all sessions share.
func base() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// With certificates it is looked at each time whether they are still good.
		SessionTicketsDisabled: true,
	}
}

// certificate returns a certificate that only carries a key. It does not expire: the other
// end stops trusting the key instead.
func certificate(own PrivateKey) (tls.Certificate, error) {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)} // RFC 5280, 4.1.2.5
	der, err := x509.CreateCertificate(nil, template, template, own.PrivateKey.Public(), own.PrivateKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: own.PrivateKey}, nil
}
