package secure

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"portredirector/internal/key"
)

// DialWithKey opens sessions with servers that have one of some keys. With only they
// are authenticated, not encrypted.
func DialWithKey(own key.Private, servers []key.Public, only bool) (*Dialer, error) {
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
		case slices.Contains(servers, p.Key):
			return nil
		case p.Key == key.Public{}:
			return untrusted{errors.New("the server has a certificate, and not a key as --peer-key says")}
		default:
			return untrusted{fmt.Errorf("the server has another key than --peer-key says: %s; compare it with what keygen printed there", p.Key)}
		}
	}
	// A session that is resumed saves both signatures, and still agrees on a new key (RFC
	// 8446, 4.2.9, psk_dhe_ke). The ticket comes before the server's word.
	c.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	c.SessionTicketsDisabled = false
	return &Dialer{config: func() *tls.Config { return c }, only: only}, nil
}

// AcceptWithKey accepts sessions with whoever proves to have a key, which the judge of
// Accept may know or not. With alsoOnly they may be authenticated and not encrypted, if
// the other end so wishes.
func AcceptWithKey(own key.Private, alsoOnly bool) (*Acceptor, error) {
	cert, err := certificate(own)
	if err != nil {
		return nil, err
	}
	c := base()
	c.Certificates = []tls.Certificate{cert}
	c.ClientAuth = tls.RequireAnyClientCert
	c.VerifyConnection = func(state tls.ConnectionState) error {
		if _, ok := key.Of(state.PeerCertificates[0].PublicKey); !ok {
			return errors.New("the client's key is of another kind")
		}
		return nil
	}
	c.SessionTicketsDisabled = false
	c.NextProtos = []string{encrypted}
	if alsoOnly {
		c.NextProtos = append(c.NextProtos, authenticated)
	}
	return &Acceptor{config: c}, nil
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
func certificate(own key.Private) (tls.Certificate, error) {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)} // RFC 5280, 4.1.2.5
	der, err := x509.CreateCertificate(nil, template, template, own.PrivateKey.Public(), own.PrivateKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: own.PrivateKey}, nil
}
