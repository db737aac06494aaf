package contender

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"portredirector/bench/internal/load"
	"portredirector/bench/internal/world"
	"portredirector/internal/testnet/far"
	"portredirector/internal/testnet/nstest"
)

// TestHAProxyTLS checks which clients get a link to HAProxy on M2, and its version and cipher. The test connects from M1, in
// place of HAProxy there.
func TestHAProxyTLS(t *testing.T) {
	if testing.Short() {
		t.Skip("needs HAProxy")
	}
	nstest.Require(t)
	w := startHAProxyTLS(t)
	client, err := tls.LoadX509KeyPair(filepath.Join(w.Scratch, "m1.pem"), filepath.Join(w.Scratch, "m1.pem"))
	nstest.Must(t, err)
	config := &tls.Config{
		RootCAs:      certificates(t, filepath.Join(w.Scratch, "m2.crt")),
		ServerName:   "m2",
		Certificates: []tls.Certificate{client},
	}
	state, err := link(t, w, config)
	if err != nil || state.Version != tls.VersionTLS13 || state.CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Errorf("got %s, %s, %v", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite), err)
	}

	stranger := config.Clone()
	stranger.Certificates = nil
	if _, err := link(t, w, stranger); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without a certificate: %v", err)
	}
	older := config.Clone()
	older.MaxVersion = tls.VersionTLS12
	if _, err := link(t, w, older); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("with TLS 1.2: %v", err)
	}
}

// startHAProxyTLS brings the contender and a service up until the end of the test.
func startHAProxyTLS(t *testing.T) *world.World {
	t.Helper()
	w, err := world.New(t.TempDir(), far.Path{})
	nstest.Must(t, err)
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	nstest.Run(t, w.M1, "haproxy", "-v") // skips where there is none
	found, err := ByName(HAProxyTLS)
	nstest.Must(t, err)
	ctx := context.WithoutCancel(t.Context()) // which ends before the cleanups, and the processes with it
	service, err := w.Play(ctx, w.M2, load.RoleService, "-mode", load.ModeSource)
	nstest.Must(t, err)
	t.Cleanup(func() { _ = service.Kill() })
	_, err = service.Line(ctx)
	nstest.Must(t, err)
	_, err = found[0].Setup(ctx, w, Subject{Secured: true})
	nstest.Must(t, err)
	return w
}

// link connects from M1 to M2 as HAProxy does, reads from the service, and returns the state of the link.
func link(t *testing.T, w *world.World, config *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	plain, err := w.M1.Dial(t.Context(), netip.AddrPort{}, world.LinkAddr)
	nstest.Must(t, err)
	defer plain.Close()
	const local = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00" // PROXY protocol v2 of a connection of its own
	_, err = plain.Write([]byte(local))
	nstest.Must(t, err)
	secured := tls.Client(plain, config)
	if err := secured.HandshakeContext(t.Context()); err != nil {
		return tls.ConnectionState{}, err
	}
	_, err = secured.Read(make([]byte, 1)) // in TLS 1.3 the client hears of a refusal only here
	return secured.ConnectionState(), err
}

// certificates returns those of a file.
func certificates(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(file)
	nstest.Must(t, err)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatalf("no certificate in %s", file)
	}
	return pool
}
