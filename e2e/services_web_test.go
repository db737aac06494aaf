package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"portredirector/internal/testnet/nstest"
)

// visitWeb asks nginx for pages by HTTP/1.1 and by HTTP/2 over TLS. One page is denied to bob's address, another goes to one
// request of an address at a time.
func visitWeb(t *testing.T, w *world) {
	dir := t.TempDir()
	certificate(t, w, dir, "service")
	n, _ := nginxServers(t, w.m2, dir, "127.0.0.1:80 [::1]:80 127.0.0.1:443 [::1]:443", `
	limit_conn_zone $binary_remote_addr zone=addresses:1m;
	log_format kind '$uri by $server_protocol: $remote_addr:$remote_port';
	access_log /dev/stdout kind;
	server {
		listen 127.0.0.1:80;
		listen [::1]:80;
		listen 127.0.0.1:443 ssl http2;
		listen [::1]:443 ssl http2;
		ssl_certificate service.crt;
		ssl_certificate_key service.key;
		location /page { return 200; }
		location /denied { deny 198.51.100.20; }
		location /slow { limit_conn addresses 1; limit_rate_after 1k; limit_rate 1; }
	}`)
	for _, name := range []string{"denied", "slow"} {
		nstest.Must(t, os.WriteFile(filepath.Join(dir, "html", name), bytes.Repeat([]byte("text"), 1<<10), 0o600))
	}

	for _, p := range w.peers("alice bob carol") {
		for proto, url := range map[string]string{"HTTP/1.1": fmt.Sprintf("http://%v/page", p.at(80)), "HTTP/2.0": fmt.Sprintf("https://%v/page", p.at(443))} {
			status, from := get(t, p, url, nil)
			if status != http.StatusOK {
				t.Errorf("%s got status %d for %s", p.Name, status, url)
			}
			n.WaitOutput(fmt.Sprintf("/page by %s: %s", proto, nginxAddr(from)))
		}
	}
	wantStatus(t, w.alice, "/denied", "200")
	wantStatus(t, w.bob, "/denied", "403")
	wantStatus(t, w.alice, "/slow", "200") // and the rest of it goes on
	wantStatus(t, w.alice, "/slow", "503")
	wantStatus(t, w.bob, "/slow", "200")
}

// visitMutualTLS shows nginx the key of a client, which knows key and address in one line.
func visitMutualTLS(t *testing.T, w *world) {
	dir := t.TempDir()
	certificate(t, w, dir, "service")
	certificate(t, w, dir, "alice")
	n, _ := nginxServers(t, w.m2, dir, "127.0.0.1:8443", `
	log_format key '$ssl_client_s_dn at $remote_addr:$remote_port: $ssl_client_verify, $status';
	access_log /dev/stdout key;
	server {
		listen 127.0.0.1:8443 ssl;
		ssl_certificate service.crt;
		ssl_certificate_key service.key;
		ssl_verify_client on;
		ssl_client_certificate alice.crt;
		return 200;
	}`)
	key, err := tls.LoadX509KeyPair(filepath.Join(dir, "alice.crt"), filepath.Join(dir, "alice.key"))
	nstest.Must(t, err)
	_, from := get(t, w.alice, fmt.Sprintf("https://%v/", w.alice.at(8443)), &key)
	n.WaitOutput(fmt.Sprintf("CN=alice at %v: SUCCESS, 200", from))
	_, from = get(t, w.bob, fmt.Sprintf("https://%v/", w.bob.at(8443)), nil)
	n.WaitOutput(fmt.Sprintf(" at %v: NONE, 400", from))
}

// certificate makes a key and a certificate with this name, in files of dir.
func certificate(t *testing.T, w *world, dir, name string) {
	t.Helper()
	nstest.Run(t, w.m2, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
		"-subj", "/CN="+name, "-keyout", filepath.Join(dir, name+".key"), "-out", filepath.Join(dir, name+".crt"))
}

// get asks for a page over one connection, which shows the key if there is one. It returns the connection's own address.
func get(t *testing.T, p peer, url string, key *tls.Certificate) (status int, from netip.AddrPort) {
	t.Helper()
	config := &tls.Config{InsecureSkipVerify: true}
	if key != nil {
		config.Certificates = []tls.Certificate{*key}
	}
	transport := &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: config,
		DialContext: func(ctx context.Context, _, to string) (net.Conn, error) {
			c, err := p.Dial(ctx, netip.AddrPort{}, netip.MustParseAddrPort(to))
			if err == nil {
				from = localAddr(c)
			}
			return c, err
		},
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	nstest.Must(t, err)
	answer, err := transport.RoundTrip(request)
	nstest.Must(t, err)
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	nstest.Must(t, err)
	return answer.StatusCode, from
}

// nginxAddr returns an address and port in nginx's words.
func nginxAddr(a netip.AddrPort) string { return fmt.Sprintf("%s:%d", a.Addr(), a.Port()) }

// wantStatus asks port 80 for a page over a connection that lives until the end of the test, and reads no more than the status.
func wantStatus(t *testing.T, p peer, page, want string) {
	t.Helper()
	c := dial(t, p.Host, p.at(80))
	_, err := fmt.Fprintf(c, "GET %s HTTP/1.0\r\n\r\n", page)
	nstest.Must(t, err)
	line, err := bufio.NewReader(c).ReadString('\n')
	nstest.Must(t, err)
	if words := strings.Fields(line); len(words) < 2 || words[1] != want {
		t.Errorf("%s got %q for %s, want status %s", p.Name, line, page, want)
	}
}
