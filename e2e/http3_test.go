package e2e_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// download is a page of pseudo-random bytes, and its hash.
type download struct {
	bytes []byte
	hash  [sha256.Size]byte
}

func newDownload(size int) *download {
	d := &download{bytes: make([]byte, size)}
	_, _ = rand.NewChaCha8([32]byte{1}).Read(d.bytes)
	d.hash = sha256.Sum256(d.bytes)
	return d
}

// serveHTTP3 serves HTTP/3 in a host. Page /from tells the address of the peer, every other page is the download.
func serveHTTP3(t *testing.T, h *testnet.Host, addr string, d *download) {
	t.Helper()
	server := &http3.Server{
		TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{newCertificate(t)}}),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/from" {
				_, _ = io.WriteString(w, r.RemoteAddr)
				return
			}
			_, _ = w.Write(d.bytes)
		}),
	}
	c := udpSocket(t, h, addr)
	serving := make(chan struct{})
	go func() {
		defer close(serving)
		_ = server.Serve(c)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-serving
	})
}

// newCertificate returns a certificate that no authority has signed.
func newCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	cert, key := newAuthority(t).issue(t, "service")
	c, err := tls.LoadX509KeyPair(cert, key)
	nstest.Must(t, err)
	return c
}

// browser is a client of HTTP/3 with one connection.
type browser struct {
	peer   peer
	socket *net.UDPConn
	before string // the address of the socket before a migration
	conn   *quic.Conn
	http   *http3.ClientConn
}

// newBrowser connects a peer to a port of M1.
func newBrowser(t *testing.T, p peer, port uint16) *browser {
	t.Helper()
	b := &browser{peer: p}
	transport := b.transport(t)
	var err error
	b.conn, err = transport.Dial(t.Context(), net.UDPAddrFromAddrPort(p.at(port)),
		&tls.Config{InsecureSkipVerify: true, NextProtos: []string{http3.NextProtoH3}}, nil)
	nstest.Must(t, err)
	b.http = new(http3.Transport).NewClientConn(b.conn)
	t.Cleanup(func() { _ = b.http.CloseWithError(0, "") })
	return b
}

// transport returns a transport with a socket of its own, which becomes that of the browser.
func (b *browser) transport(t *testing.T) *quic.Transport {
	t.Helper()
	b.socket = udpSocket(t, b.peer.Host, netip.AddrPortFrom(b.peer.addr, 0).String())
	transport := &quic.Transport{Conn: b.socket}
	t.Cleanup(func() { _ = transport.Close() })
	return transport
}

// migrate moves the connection to another port of the peer.
func (b *browser) migrate(t *testing.T) {
	t.Helper()
	b.before = b.socket.LocalAddr().String()
	path, err := b.conn.AddPath(b.transport(t))
	nstest.Must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	nstest.Must(t, path.Probe(ctx))
	nstest.Must(t, path.Switch())
}

// get returns the answer for a page.
func (b *browser) get(t *testing.T, page string) io.ReadCloser {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://service"+page, nil)
	nstest.Must(t, err)
	answer, err := b.http.RoundTrip(r)
	nstest.Must(t, err)
	return answer.Body
}

// wantSeen waits until the service sees the browser's own address. Until its QUIC has noticed a migration it may still see the
// address before.
func (b *browser) wantSeen(t *testing.T) {
	t.Helper()
	own := b.socket.LocalAddr().String()
	nstest.WaitFor(t, "the service to see "+own, func() bool {
		body := b.get(t, "/from")
		defer body.Close()
		got, err := io.ReadAll(body)
		nstest.Must(t, err)
		if string(got) != own && string(got) != b.before {
			t.Fatalf("the service sees %s, want %s", got, own)
		}
		return string(got) == own
	})
}

// wantDownload checks that a download arrives as it is. halfway is called in the middle of it.
func (b *browser) wantDownload(t *testing.T, d *download, halfway func()) {
	t.Helper()
	body := b.get(t, "/download")
	defer body.Close()
	hash := sha256.New()
	first, err := io.CopyN(hash, body, int64(len(d.bytes)/2))
	nstest.Must(t, err)
	halfway()
	rest, err := io.Copy(hash, body)
	nstest.Must(t, err)
	if got := first + rest; got != int64(len(d.bytes)) || [sha256.Size]byte(hash.Sum(nil)) != d.hash {
		t.Errorf("%d bytes with another hash, want %d", got, len(d.bytes))
	}
}
