package auth

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"portredirector/internal/reload"
)

// CertificateFiles names the files of a public key infrastructure, in PEM.
type CertificateFiles struct {
	Cert, Key string // this end's certificate with its intermediates, and its key
	CA        string // the authorities for the other end's certificate
}

// pki holds their parsed contents.
type pki struct {
	cert tls.Certificate
	ca   *x509.CertPool
}

// ReadFile reads a file, as os.ReadFile does. A confined program has another that still can.
type ReadFile func(path string) ([]byte, error)

// DialWithCertificate opens sessions with servers whose certificate is from one of the
// authorities and has their name. The files are read again when they change.
func DialWithCertificate(files CertificateFiles, read ReadFile, log *slog.Logger) (*Dialer, error) {
	v, err := files.load(read, log)
	if err != nil {
		return nil, err
	}
	return &Dialer{still: stillOf(v, x509.ExtKeyUsageServerAuth), config: func() *tls.Config {
		p, c := v.Get(), base()
		c.Certificates, c.RootCAs = []tls.Certificate{p.cert}, p.ca
		return c
	}}, nil
}

// AcceptWithCertificate accepts sessions with clients whose certificate is from one of the
// authorities. The files are read again when they change.
func AcceptWithCertificate(files CertificateFiles, read ReadFile, log *slog.Logger) (*Acceptor, error) {
	v, err := files.load(read, log)
	if err != nil {
		return nil, err
	}
	return &Acceptor{still: stillOf(v, x509.ExtKeyUsageClientAuth), config: &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			p, c := v.Get(), base()
			c.Certificates, c.ClientCAs = []tls.Certificate{p.cert}, p.ca
			c.ClientAuth = tls.RequireAndVerifyClientCert
			c.NextProtos = []string{encrypted[ToServer]}
			return c, nil
		},
	}}, nil
}

// stillOf returns still for certificates with a usage.
func stillOf(v *reload.Value[pki], usage x509.ExtKeyUsage) func([]*x509.Certificate) func() error {
	return func(chain []*x509.Certificate) func() error { return still(v, chain, usage) }
}

// still returns a function that checks whether a certificate is still valid. It
// verifies again only if the authorities have changed or a certificate of the chain has
// expired.
func still(v *reload.Value[pki], chain []*x509.Certificate, usage x509.ExtKeyUsage) func() error {
	by, until := v.Get().ca, chain[0].NotAfter
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
		if c.NotAfter.Before(until) {
			until = c.NotAfter
		}
	}
	return func() error {
		now := v.Get().ca
		if now == by && time.Now().Before(until) {
			return nil
		}
		_, err := chain[0].Verify(x509.VerifyOptions{
			Roots: now, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{usage},
		})
		if err == nil {
			by = now
		}
		return err
	}
}

func (f CertificateFiles) load(read ReadFile, log *slog.Logger) (*reload.Value[pki], error) {
	return reload.New(log, func() (pki, error) { return f.parse(read) }, f.Cert, f.Key, f.CA)
}

// parse reads and parses the files.
func (f CertificateFiles) parse(read ReadFile) (pki, error) {
	chain, err1 := read(f.Cert)
	key, err2 := read(f.Key)
	err := errors.Join(err1, err2)
	var cert tls.Certificate
	if err == nil {
		cert, err = tls.X509KeyPair(chain, key)
	}
	if err != nil {
		return pki{}, fmt.Errorf("certificate %s with key %s: %w", f.Cert, f.Key, err)
	}
	pem, err := read(f.CA)
	if err != nil {
		return pki{}, fmt.Errorf("authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return pki{}, fmt.Errorf("authorities %s: it has no certificate in PEM", f.CA)
	}
	return pki{cert, pool}, nil
}
