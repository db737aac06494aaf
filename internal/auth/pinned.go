package auth

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// DialWithKey opens sessions with servers that have one of some keys. With only they
// are authenticated, not encrypted.
func DialWithKey(own PrivateKey, servers []PublicKey, only bool) (*Dialer, error) {
	c, err := dialWithKey(own, "server", func(k PublicKey) bool { return slices.Contains(servers, k) })
	return &Dialer{config: func() *tls.Config { return c }, authOnly: only}, err
}

// DialClients opens sessions with clients, for a server that they cannot reach.
func DialClients(own PrivateKey, known func(PublicKey) bool, only bool) (*Dialer, error) {
	c, err := dialWithKey(own, "client", known)
	return &Dialer{config: func() *tls.Config { return c }, authOnly: only, toClient: true}, err
}

// dialWithKey is for sessions with those that are known, and are called them.
func dialWithKey(own PrivateKey, them string, known func(PublicKey) bool) (*tls.Config, error) {
	cert, err := certificate(own)
	if err != nil {
		return nil, err
	}
	c := base()
	c.Certificates = []tls.Certificate{cert}
	// The certificate is but the form in which TLS carries a key, which is what counts:
	// VerifyConnection looks at it, also where a session is resumed.
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
	// A session that is resumed saves both signatures, and still agrees on a new key (RFC
	// 8446, 4.2.9, psk_dhe_ke). The ticket comes before the other end's word.
	c.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	c.SessionTicketsDisabled = false
	return c, nil
}

// AcceptWithKey accepts sessions with whoever proves to have a key, which the judge of
// Accept may know or not. With alsoOnly they may be authenticated and not encrypted, if
// the other end so wishes.
func AcceptWithKey(own PrivateKey, alsoOnly bool) (*Acceptor, error) {
	c, err := acceptWithKey(own, "client", alsoOnly, ToServer)
	return &Acceptor{config: c}, err
}

// AcceptServers accepts sessions with servers, for a client that cannot reach them.
func AcceptServers(own PrivateKey, alsoOnly bool) (*Acceptor, error) {
	c, err := acceptWithKey(own, "server", alsoOnly, ToClient, Control, Join)
	return &Acceptor{config: c, toClient: true}, err
}

// acceptWithKey is for sessions of some purposes, with what is called them.
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

// base is what all have in common.
func base() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// With certificates it is looked at each time whether they are still good.
		SessionTicketsDisabled: true,
	}
}

// certificate is one that says nothing but the key. It has no end: what ends is the
// other's trust in the key.
func certificate(own PrivateKey) (tls.Certificate, error) {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)} // RFC 5280, 4.1.2.5
	der, err := x509.CreateCertificate(nil, template, template, own.PrivateKey.Public(), own.PrivateKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: own.PrivateKey}, nil
}
