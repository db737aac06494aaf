package auth_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/testnet/nstest"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // with its certificate
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	return under(t, nil)
}

// under makes an authority that another one has signed, if it is not nil.
func under(t testing.TB, parent *authority) *authority {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	nstest.Must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority " + rand.Text()},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a := &authority{key: k, file: filepath.Join(t.TempDir(), "ca.pem")}
	if parent == nil {
		parent = &authority{cert: template, key: k}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, k.Public(), parent.key)
	nstest.Must(t, err)
	a.cert, err = x509.ParseCertificate(der)
	nstest.Must(t, err)
	nstest.Must(t, os.WriteFile(a.file, pemOf(der), 0o600))
	return a
}

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// leaf has the contents of a certificate.
type leaf struct {
	name   string    // "" is server.example
	until  time.Time // zero is in a thousand years
	behind []byte    // goes behind it in its file
}

// files are those of a certificate.
type files struct{ cert, key string }

// issue issues a certificate, for both ends.
func (a *authority) issue(t testing.TB, l leaf) files {
	t.Helper()
	dir := t.TempDir()
	f := files{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	a.renew(t, f, l)
	return f
}

// renew issues another one in place of it.
func (a *authority) renew(t testing.TB, f files, l leaf) {
	t.Helper()
	if l.name == "" {
		l.name = "server.example"
	}
	if l.until.IsZero() {
		l.until = time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	nstest.Must(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: l.name}, DNSNames: []string{l.name},
		NotBefore: time.Unix(0, 0), NotAfter: l.until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, k.Public(), a.key)
	nstest.Must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(k)
	nstest.Must(t, err)
	replace(t, f.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	replace(t, f.cert, append(pemOf(der), l.behind...))
}

// replace replaces a file by another one.
func replace(t testing.TB, path string, text []byte) {
	t.Helper()
	nstest.Must(t, os.WriteFile(path+"~", text, 0o600))
	nstest.Must(t, os.Rename(path+"~", path))
}

func (f files) load(t testing.TB) tls.Certificate {
	t.Helper()
	c, err := tls.LoadX509KeyPair(f.cert, f.key)
	nstest.Must(t, err)
	return c
}

func (a *authority) files(f files) auth.CertificateFiles {
	return auth.CertificateFiles{Cert: f.cert, Key: f.key, CA: a.file}
}

// dialer and acceptor have a certificate, and take what is from the authority.

func (a *authority) dialer(t testing.TB, f files) *auth.Dialer {
	t.Helper()
	d, err := auth.DialWithCertificate(a.files(f), os.ReadFile, slog.New(slog.DiscardHandler))
	nstest.Must(t, err)
	return d
}

func (a *authority) acceptor(t testing.TB, f files) *auth.Acceptor {
	t.Helper()
	c, err := auth.AcceptWithCertificate(a.files(f), os.ReadFile, slog.New(slog.DiscardHandler))
	nstest.Must(t, err)
	return c
}

func TestCertificates(t *testing.T) {
	ca := newAuthority(t)
	between := under(t, ca)
	for name, issue := range map[string]func(leaf) files{
		"of the authority": func(l leaf) files { return ca.issue(t, l) },
		"with one between": func(l leaf) files {
			l.behind = pemOf(between.cert.Raw)
			return between.issue(t, l)
		},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := sure(t, ca.dialer(t, issue(leaf{name: "client.example"})), ca.acceptor(t, issue(leaf{})))
			if client.Identity != (auth.Identity{Name: "CN=server.example"}) || server.Identity != (auth.Identity{Name: "CN=client.example"}) {
				t.Errorf("the ends are %+v and %+v", client.Identity, server.Identity)
			}
			write(t, client.Conn, []byte("hello"))
			wantRead(t, server.Conn, "hello")
		})
	}
}

// TestBadCertificates: both ends are told what is wrong.
func TestBadCertificates(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	good, own := ca.issue(t, leaf{}), newRig(t, false, false)
	expired := ca.issue(t, leaf{until: time.Unix(1, 0)})
	for name, tt := range map[string]struct {
		dialer         *auth.Dialer
		acceptor       *auth.Acceptor
		client, server string // what they say
	}{
		"the server's is of another authority": {ca.dialer(t, good), ca.acceptor(t, other.issue(t, leaf{})), "from none of our authorities", "authority"},
		"the server has another name":          {ca.dialer(t, good), ca.acceptor(t, ca.issue(t, leaf{name: "other.example"})), "(subjectAltName)", "its name"},
		"the server's has expired":             {ca.dialer(t, good), ca.acceptor(t, expired), "the server's certificate has expired", "its dates"},
		"the client's is of another authority": {ca.dialer(t, other.issue(t, leaf{})), ca.acceptor(t, good), "authorit", "authorit"},
		"the client's has expired":             {ca.dialer(t, expired), ca.acceptor(t, good), "this client's certificate has expired", "the client's certificate has expired"},
		"the server has a key":                 {ca.dialer(t, good), own.acceptor, "failed to verify", "authority"},
		"the client has a key":                 {own.dialer, ca.acceptor(t, good), "certificate", "does not take this server's key"},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := handshake(t, tt.dialer, tt.acceptor, anybody)
			wantErrorAt(t, "client", client.err, tt.client)
			wantErrorAt(t, "server", server.err, tt.server)
		})
	}
}

// TestForeignWithoutCertificate: it gets nowhere.
func TestForeignWithoutCertificate(t *testing.T) {
	ca := newAuthority(t)
	_, err := foreign(t, ca.acceptor(t, ca.issue(t, leaf{})), new(tls.Config), anybody)
	wantErrorAt(t, "server", err, "certificate")
	_, err = foreign(t, newRig(t, false, false).acceptor, new(tls.Config), anybody)
	wantErrorAt(t, "server", err, "neither a key nor a certificate")
}

func TestCertificateFiles(t *testing.T) {
	ca := newAuthority(t)
	good, other := ca.issue(t, leaf{}), ca.issue(t, leaf{})
	empty := filepath.Join(t.TempDir(), "empty")
	nstest.Must(t, os.WriteFile(empty, nil, 0o600))
	for name, tt := range map[string]struct {
		files auth.CertificateFiles
		says  string
	}{
		"no certificate":         {auth.CertificateFiles{Cert: "none.pem", Key: good.key, CA: ca.file}, "none.pem"},
		"no key":                 {auth.CertificateFiles{Cert: good.cert, Key: "none.pem", CA: ca.file}, "none.pem"},
		"no authorities":         {auth.CertificateFiles{Cert: good.cert, Key: good.key, CA: "none.pem"}, "none.pem"},
		"another's key":          {auth.CertificateFiles{Cert: good.cert, Key: other.key, CA: ca.file}, other.key},
		"authorities are no PEM": {auth.CertificateFiles{Cert: good.cert, Key: good.key, CA: empty}, empty},
	} {
		t.Run(name, func(t *testing.T) {
			log := slog.New(slog.DiscardHandler)
			_, err := auth.DialWithCertificate(tt.files, os.ReadFile, log)
			wantErrorAt(t, "client", err, tt.says)
			_, err = auth.AcceptWithCertificate(tt.files, os.ReadFile, log)
			wantErrorAt(t, "server", err, tt.says)
		})
	}
}

// TestRenewed: certificates and authorities that have changed are used for what comes
// then, by both ends.
func TestRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t)
		near, far := ca.issue(t, leaf{name: "client-1"}), ca.issue(t, leaf{})
		var lines bytes.Buffer
		d, err := auth.DialWithCertificate(ca.files(near), os.ReadFile, slog.New(slog.NewTextHandler(&lines, nil)))
		nstest.Must(t, err)
		a := ca.acceptor(t, far)
		same := func(want string) {
			t.Helper()
			time.Sleep(time.Second)
			client, server := sure(t, d, a)
			if client.Identity.Name != "CN=server.example" || server.Identity.Name != want {
				t.Errorf("the ends are %+v and %+v", client.Identity, server.Identity)
			}
		}
		same("CN=client-1")
		ca.renew(t, near, leaf{name: "client-2"})
		same("CN=client-2")
		clientBefore, before := sure(t, d, a)
		nstest.Must(t, before.Still(), clientBefore.Still())
		ca.renew(t, far, leaf{name: "other.example"})
		time.Sleep(time.Second)
		client, _ := handshake(t, d, a, anybody)
		wantErrorAt(t, "client", client.err, "other.example")
		// Another authority, and both ends follow.
		next := newAuthority(t)
		text, err := os.ReadFile(next.file)
		nstest.Must(t, err)
		replace(t, ca.file, text)
		next.renew(t, near, leaf{name: "client-3"})
		next.renew(t, far, leaf{})
		same("CN=client-3")
		wantErrorAt(t, "server, of an open link", before.Still(), "unknown authority")
		wantErrorAt(t, "client, of an open link", clientBefore.Still(), "unknown authority")
		// One that is broken changes nothing, and is told.
		lines.Reset()
		replace(t, near.cert, []byte("broken"))
		same("CN=client-3")
		same("CN=client-3")
		if n := strings.Count(lines.String(), near.cert); n != 1 {
			t.Errorf("%d lines: %s", n, &lines)
		}
	})
}
