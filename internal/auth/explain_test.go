package auth_test

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"portredirector/internal/auth"
	"portredirector/internal/testnet/nstest"
)

// TestAuthOnlyIsRefused: a server that encrypts says so, and so does its client.
func TestAuthOnlyIsRefused(t *testing.T) {
	r := newRig(t, true, false)
	client, server := handshake(t, r.dialer, r.acceptor, anybody)
	wantErrorAt(t, "client", client.err, "does not take links that are only authenticated")
	wantErrorAt(t, "server", server.err, "wants links that are only authenticated")
	ca := newAuthority(t)
	f := ca.issue(t, leaf{})
	only, err := auth.DialWithKey(auth.NewKey(), []auth.PublicKey{r.theirs.Public()}, true)
	nstest.Must(t, err)
	client, server = handshake(t, only, ca.acceptor(t, f), anybody)
	wantErrorAt(t, "client", client.err, "does not take links that are only authenticated")
	wantErrorAt(t, "server", server.err, "wants links that are only authenticated")
}

// TestWrongPort: an end that dials another of its own kind is told so, also if it wants links that are only authenticated.
func TestWrongPort(t *testing.T) {
	own := auth.NewKey()
	servers, err := auth.AcceptServers(own, false)
	nstest.Must(t, err)
	clients, err := auth.AcceptWithKey(own, false)
	nstest.Must(t, err)
	for _, only := range []bool{false, true} {
		client, err := auth.DialWithKey(auth.NewKey(), []auth.PublicKey{own.Public()}, only)
		nstest.Must(t, err)
		server, err := auth.DialClients(auth.NewKey(), func(auth.PublicKey) bool { return true }, only)
		nstest.Must(t, err)
		for _, tt := range []struct {
			dialer   *auth.Dialer
			purpose  auth.Purpose
			acceptor *auth.Acceptor
			dials    string
			accepts  string
		}{
			{client, auth.ToServer, servers, "waits for servers and not for clients", "it is a client: this port is for servers"},
			{server, auth.Control, clients, "waits for clients and not for servers", "it is a server: this port is for clients"},
			{server, auth.Join, clients, "waits for clients and not for servers", "it is a server: this port is for clients"},
		} {
			dialed, accepted := connection(t)
			near, far := descriptor(t, dialed), descriptor(t, accepted)
			opened := make(chan error)
			go func() {
				_, err := tt.dialer.Open(t.Context(), near, "other.example", tt.purpose)
				opened <- err
			}()
			_, err := tt.acceptor.Accept(t.Context(), far, nil, anybody)
			wantErrorAt(t, "who dials", <-opened, tt.dials)
			wantErrorAt(t, "who is dialed", err, tt.accepts)
		}
	}
}

// TestNoneOfOurs: what a client says of servers that are none, or have no key; and that
// they cost no descriptor.
func TestNoneOfOurs(t *testing.T) {
	cert := newAuthority(t).issue(t, leaf{}).load(t)
	shake := func(config *tls.Config) func(c *net.TCPConn) {
		config.Certificates = []tls.Certificate{cert}
		return func(c *net.TCPConn) {
			s := tls.Server(c, config)
			_ = s.Handshake()
			_ = s.Close()
		}
	}
	r := newRig(t, false, false)
	sure(t, r.dialer, r.acceptor)
	for name, tt := range map[string]struct {
		serve func(c *net.TCPConn)
		says  []string
	}{
		"a plain server of ours": {func(c *net.TCPConn) { // it resets what it does not take
			_, _ = c.Read(make([]byte, 64<<10))
			_ = c.SetLinger(0)
		}, []string{"ends the link", "a key or a certificate", "allow this machine"}},
		"one that only ends": {func(c *net.TCPConn) {
			_, _ = c.Read(make([]byte, 64<<10))
		}, []string{"ends the link", "a key or a certificate"}},
		"half a record": {func(c *net.TCPConn) {
			_, _ = c.Read(make([]byte, 64<<10))
			_, _ = c.Write([]byte("\x16\x03\x03\x00\x40half"))
		}, []string{"ends the link", "a key or a certificate"}},
		"ssh":         {func(c *net.TCPConn) { _, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.2p1\r\n") }, []string{"does not speak TLS", "a key or a certificate"}},
		"http":        {func(c *net.TCPConn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, []string{"does not speak TLS", "a key or a certificate"}},
		"https":       {shake(&tls.Config{NextProtos: []string{"h2", "http/1.1"}}), []string{"another program"}},
		"an old one":  {shake(&tls.Config{MaxVersion: tls.VersionTLS12}), []string{"another program", "TLS 1.3"}},
		"another TLS": {shake(&tls.Config{}), []string{"has a certificate and no key"}},
	} {
		t.Run(name, func(t *testing.T) {
			before := nstest.Descriptors(t, os.Getpid())
			dialed, accepted := connection(t)
			served := make(chan struct{})
			go func() {
				defer close(served)
				tt.serve(accepted)
				_ = accepted.Close()
			}()
			_, err := r.dialer.Open(t.Context(), descriptor(t, dialed), "server.example", auth.ToServer)
			<-served
			wantErrorAt(t, "client", err, tt.says...)
			wantDescriptors(t, before)
		})
	}
}

// TestBrief: who wants to fill the log cannot do so by what it says in a handshake.
func TestBrief(t *testing.T) {
	r := newRig(t, false, false)
	protocols := make([]string, 100)
	for i := range protocols {
		protocols[i] = strings.Repeat("\x00", 200)
	}
	_, err := foreign(t, r.acceptor, &tls.Config{NextProtos: protocols}, anybody)
	wantErrorAt(t, "server", err, "another program")
	if n := len(err.Error()); n > 1000 {
		t.Errorf("the error has %d bytes", n)
	}
}

// TestLongHandshake: one that says much more than certificates are long is refused.
func TestLongHandshake(t *testing.T) {
	r := newRig(t, false, false)
	cert := newAuthority(t).issue(t, leaf{}).load(t)
	for len(cert.Certificate) < 100 {
		cert.Certificate = append(cert.Certificate, cert.Certificate[0])
	}
	_, err := foreign(t, r.acceptor, &tls.Config{Certificates: []tls.Certificate{cert}}, anybody)
	wantErrorAt(t, "server", err, "too long")
}
