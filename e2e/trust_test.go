package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"portredirector/internal/testnet/nstest"
)

// trust is the options by which the ends of a link authenticate each other.
type trust struct{ client, server string }

// newKeys returns a key for each end.
func newKeys(t *testing.T) trust {
	t.Helper()
	c, s := keygen(t), keygen(t)
	return trust{
		client: "--key " + c.file + " --server-key " + s.public,
		server: "--key " + s.file + " --client-key " + c.public,
	}
}

// pair is a private key in its file, and the public key.
type pair struct{ file, public string }

func keygen(t *testing.T) pair {
	t.Helper()
	path, err := program()
	nstest.Must(t, err)
	file := filepath.Join(t.TempDir(), "key")
	public, err := exec.Command(path, "keygen", file).Output()
	nstest.Must(t, err)
	return pair{file, strings.TrimSpace(string(public))}
}

// authOnly returns a key for each end, for links that are not encrypted.
func authOnly(t *testing.T) trust {
	t.Helper()
	k := newKeys(t)
	return trust{k.client + " --auth-only", k.server + " --auth-only"}
}

// certificates returns a certificate for each end, from one authority.
func certificates(t *testing.T) trust {
	t.Helper()
	ca := newAuthority(t)
	options := func(name string, addrs ...net.IP) string {
		cert, key := ca.issue(t, name, addrs...)
		return fmt.Sprintf("--tls-ca %s --tls-cert %s --tls-key %s", ca.file, cert, key)
	}
	return trust{options("m1"), options("m2", net.IPv4(10, 0, 0, 2), net.ParseIP("fd00:10::2"))}
}

// kinds lists all kinds of trust.
var kinds = map[string]func(t *testing.T) trust{
	"plain": func(*testing.T) trust { return trust{} }, "encrypted": newKeys, "authenticated": authOnly, "certificates": certificates,
}

// authority is a certificate authority.
type authority struct {
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	nstest.Must(t, err)
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, a.key.Public(), a.key)
	nstest.Must(t, err)
	a.file = writePEM(t, "CERTIFICATE", der)
	return a
}

// issue makes a certificate and its key.
func (a *authority) issue(t *testing.T, name string, addrs ...net.IP) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	nstest.Must(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: addrs,
		NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, a.cert, k.Public(), a.key)
	nstest.Must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(k)
	nstest.Must(t, err)
	return writePEM(t, "CERTIFICATE", der), writePEM(t, "PRIVATE KEY", private)
}

func writePEM(t *testing.T, kind string, der []byte) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "pem")
	nstest.Must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}

// TestSecuredLinks serves peers over links of every kind, each with both ways to dial a service, and with and without the pool.
func TestSecuredLinks(t *testing.T) {
	for kind, make := range kinds {
		for service, pool := range map[string]string{loopback80: "", guest80: "--pool-max 0"} {
			t.Run(fmt.Sprint(kind, " ", service, " ", pool), func(t *testing.T) {
				t.Parallel()
				c := chain{world: newWorld(t)}
				host, k := c.m2, make(t)
				if service == guest80 {
					host = c.guest
				}
				c.service = listen(t, host, service)
				c.world.server(t, "-p 80="+service+" "+k.server)
				c.world.client(t, "-p 80 "+pool+" "+k.client)
				c.connect(t).talk(t)
				s := c.connect(t)
				transfer(t, s.peer, s.service)()
				transfer(t, s.service, s.peer)()
				s = c.connect(t)
				sent := flow(t, s.peer, s.service)
				reset(t, s.service)
				wantSenderReset(t, sent)
				s = c.connect(t)
				reset(t, s.peer)
				wantReset(t, s.service)
				nstest.Must(t, c.service.Close())
				c.wantRefused(t, c.alice, 80)
			})
		}
	}
}

// TestServerRestartsUnderKeys checks that peers that connect during a restart wait, and are served.
func TestServerRestartsUnderKeys(t *testing.T) {
	t.Parallel()
	w, k := newWorld(t), newKeys(t)
	service := listen(t, w.m2, loopback80)
	server := w.server(t, "-p 80 "+k.server)
	w.client(t, "-p 80 "+k.client)
	newSession(t, w.alice, 80, service).talk(t)
	server.Signal(os.Interrupt)
	server.wantEnd(t)
	waiting := dial(t, w.alice.Host, w.alice.at(80))
	w.server(t, "-p 80 "+k.server)
	session{waiting, accept(t, service)}.talk(t)
}

// TestClientsFile edits the file of clients, behind a symbolic link, while the server runs. The peers of a client whose key is
// missing are reset at once, not after a wait.
func TestClientsFile(t *testing.T) {
	t.Parallel()
	w, own, mine, other := newWorld(t), keygen(t), keygen(t), keygen(t)
	service := listen(t, w.m2, loopback80)
	file := filepath.Join(t.TempDir(), "clients")
	edit := func(lines string) {
		generation := filepath.Join(t.TempDir(), "clients")
		nstest.Must(t, os.WriteFile(generation, []byte(lines), 0o600))
		leadTo(t, generation, file)
	}
	edit("other " + other.public)
	server := w.server(t, fmt.Sprintf("-p 80 --key %s --clients %s", own.file, file))
	client := w.client(t, fmt.Sprintf("-p 80 --key %s --server-key %s", mine.file, own.public))
	server.WaitOutput(mine.public) // so that it need not be copied from elsewhere
	client.WaitOutput("does not know this end's key")
	w.wantRefused(t, w.alice, 80)

	edit("other " + other.public + "\nm1 " + mine.public + "\n")
	nstest.WaitFor(t, "a peer to be served", func() bool { return w.served(w.alice, service) })
	newSession(t, w.alice, 80, service).talk(t)

	edit("m1 no-key")
	server.WaitOutput("the previous content stays in use")
	newSession(t, w.alice, 80, service).talk(t)
	edit("other " + other.public)
	nstest.WaitFor(t, "a peer to be refused", func() bool { return !w.served(w.alice, service) }) // though there are links that were opened before
	w.wantRefused(t, w.alice, 80)
}

// served reports whether a peer of port 80 gets to the service.
func (w *world) served(p peer, service *net.TCPListener) bool {
	c, err := dialFrom(p, netip.AddrPort{}, p.at(80))
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	_ = service.SetDeadline(time.Now().Add(500 * time.Millisecond))
	defer func() { _ = service.SetDeadline(time.Time{}) }()
	s, err := service.Accept()
	return err == nil && s.Close() == nil
}

// TestCertificatesAreReadAgain checks that a server accepts clients of a new authority after its files were replaced.
func TestCertificatesAreReadAgain(t *testing.T) {
	for name, put := range map[string]func(t *testing.T, file, at string){
		"replaced":      func(t *testing.T, file, at string) { nstest.Must(t, os.Rename(file, at)) },
		"behind a link": leadTo, // as certbot's live/ leads to archive/
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantCertificatesReadAgain(t, put)
		})
	}
}

// leadTo makes a symbolic link lead to a file.
func leadTo(t *testing.T, file, link string) {
	t.Helper()
	nstest.Must(t, os.Symlink(file, link+".new"))
	nstest.Must(t, os.Rename(link+".new", link))
}

func wantCertificatesReadAgain(t *testing.T, put func(t *testing.T, file, at string)) {
	w, before, after := newWorld(t), newAuthority(t), newAuthority(t)
	service := listen(t, w.m2, loopback80)
	dir := t.TempDir()
	place := func(ca *authority) {
		cert, key := ca.issue(t, "m2", net.IPv4(10, 0, 0, 2))
		for name, from := range map[string]string{"ca": ca.file, "cert": cert, "key": key} {
			b, err := os.ReadFile(from)
			nstest.Must(t, err)
			nstest.Must(t, os.WriteFile(from+".new", b, 0o600))
			put(t, from+".new", filepath.Join(dir, name))
		}
	}
	place(before)
	server := w.server(t, fmt.Sprintf("-p 80 --tls-ca %s/ca --tls-cert %s/cert --tls-key %s/key", dir, dir, dir))
	cert, key := after.issue(t, "m1")
	client := w.client(t, fmt.Sprintf("-p 80 --tls-ca %s --tls-cert %s --tls-key %s", after.file, cert, key))
	client.WaitOutput("leaving it out")
	place(after)
	server.WaitOutput("read again")
	nstest.WaitFor(t, "a peer to be served", func() bool { return w.served(w.alice, service) })
	newSession(t, w.alice, 80, service).talk(t)
}

// TestClaims checks that source addresses of the machine itself are refused, from every client and in every form.
func TestClaims(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := listen(t, w.m2, "0.0.0.0:80")
	server := w.server(t, "-p 80=127.0.0.1:80 -p 81=127.0.0.1:80 --deny-claim 198.51.100.0/24 --allow-claim 192.0.2.2/32")
	claims := func(claim string) *net.TCPConn {
		c := dial(t, w.m1, netip.MustParseAddrPort(linkTo))
		_, err := fmt.Fprintf(c, "PROXY TCP4 %s 203.0.113.1 1234 80\r\n", claim)
		nstest.Must(t, err)
		return c
	}
	nstest.Run(t, w.m2, "ip", "address", "add", "192.0.2.77/32", "dev", "lo")
	time.Sleep(100 * time.Millisecond) // the kernel tells of it
	for _, claim := range []string{"127.0.0.1", "10.0.0.2", "172.30.0.1", "192.0.2.77", "169.254.1.1", "198.51.100.20", "10.0.0.255"} {
		wantReset(t, claims(claim))
	}
	six := dial(t, w.m1, netip.MustParseAddrPort(linkTo))
	_, err := fmt.Fprintf(six, "PROXY TCP6 ::ffff:127.0.0.1 ::ffff:203.0.113.1 1234 80\r\n")
	nstest.Must(t, err)
	wantReset(t, six)
	for _, claim := range []string{"203.0.113.99", "192.0.2.2"} {
		claims(claim)
		if seen := remoteAddr(accept(t, service)).Addr().String(); seen != claim {
			t.Errorf("the service sees %s, not %s", seen, claim)
		}
	}
	nstest.Run(t, w.m2, "ip", "address", "del", "192.0.2.77/32", "dev", "lo")
	server.Signal(os.Interrupt)
	server.wantEnd(t)
	server.WaitOutput("refused.claim=8")
}

// TestAllow checks that links from other addresses are reset.
func TestAllow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := listen(t, w.m2, loopback80)
	server := w.server(t, "-p 80 --allow 10.0.0.1 --allow fd00:10::/64")
	if strings.Contains(server.Output(), "anybody") {
		t.Error("it warns of everybody")
	}
	w.client(t, "-p 80")
	newSession(t, w.alice, 80, service).talk(t)
	for range 3 {
		wantRefused(t, peer{Host: w.guest}, netip.AddrPort{}, netip.MustParseAddrPort("172.30.0.1:"+linkPort))
	}
	if n := strings.Count(server.WaitOutput("links from this address are not allowed (--allow)"), "172.30.0.2"); n != 1 {
		t.Error("it does not say from where")
	}
	server.Signal(os.Interrupt)
	server.wantEnd(t)
	server.WaitOutput("refused.allow=3")
}

// TestOpenServer checks that a server that accepts links from anybody warns, and says what to do.
func TestOpenServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.server(t, "-p 80").WaitOutput("--allow")
	local := start(t, w.m2, "server", "-l 127.0.0.1:12346 -p 80")
	if strings.Contains(local.Output(), "--allow") {
		t.Error("one on loopback says so, too")
	}
}
