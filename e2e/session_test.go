package e2e_test

import (
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"portredirector/internal/testnet/nstest"
)

// bulk is the number of bytes of a transfer.
const bulk = 64 << 20

// Services of a chain.
const (
	loopback80 = "127.0.0.1:80"
	guest80    = "172.30.0.2:80"
)

// chain is a world in which port 80 of M1 leads to a service.
type chain struct {
	*world

	service        *net.TCPListener
	server, client *daemon
}

// newChain builds a world with a service on M2, or on the guest if there is one, and our two programs with the same options.
func newChain(t *testing.T, service string, options ...string) chain {
	t.Helper()
	c := chain{world: newWorld(t)}
	host := c.m2
	if service == guest80 {
		host = c.guest
	}
	c.service = listen(t, host, service)
	more := strings.Join(options, " ")
	c.server = c.world.server(t, "-p 80="+service+" "+more)
	c.client = c.world.client(t, "-p 80 "+more)
	return c
}

// connect lets alice connect.
func (c chain) connect(t *testing.T) session {
	t.Helper()
	return newSession(t, c.alice, 80, c.service)
}

// session is one peer's connection, at both its ends.
type session struct{ peer, service *net.TCPConn }

// newSession lets p connect to a port of M1, and the service of that port accept. It fails the test if the service does not see p.
func newSession(t *testing.T, p peer, port uint16, service *net.TCPListener) session {
	t.Helper()
	s := meet(t, p, port, service)
	if is, seen := localAddr(s.peer), remoteAddr(s.service); is != seen {
		t.Errorf("the service saw %v, but the peer is %v", seen, is)
	}
	return s
}

// meet lets p connect to a port of M1, and the service of that port accept. It fails the test if the service sees another address.
// Another port is permitted: the kernel may give the same port to two peers in a row, while the first connection still exists.
func meet(t *testing.T, p peer, port uint16, service *net.TCPListener) session {
	t.Helper()
	s := session{peer: dial(t, p.Host, p.at(port))}
	s.service = accept(t, service)
	if seen := remoteAddr(s.service); seen.Addr() != p.addr {
		t.Errorf("the service saw %v, but the peer is %v", seen, p.addr)
	}
	return s
}

// talk sends a message in each direction.
func (s session) talk(t *testing.T) {
	t.Helper()
	for _, way := range []struct {
		from, to *net.TCPConn
		text     string
	}{{s.peer, s.service, "how are you?"}, {s.service, s.peer, "fine, thank you"}} {
		deadline := time.Now().Add(patience)
		nstest.Must(t, way.from.SetWriteDeadline(deadline), way.to.SetReadDeadline(deadline))
		_, err := io.WriteString(way.from, way.text)
		nstest.Must(t, err)
		wantNext(t, way.to, way.text)
	}
}

// wantNext fails the test unless the next that comes from r is text.
func wantNext(t *testing.T, r io.Reader, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if n, err := io.ReadFull(r, got); err != nil || string(got) != text {
		t.Errorf("received %q (%v), want %q", got[:n], err, text)
	}
}

// digest tells contents apart.
type digest [sha256.Size]byte

// delivery is the result of a transfer.
type delivery struct {
	sum digest
	err error
}

// send writes n random bytes to w.
func send(w io.Writer, n int64) delivery {
	h := sha256.New()
	_, err := io.CopyN(io.MultiWriter(w, h), random(), n)
	return delivery{digest(h.Sum(nil)), err}
}

// random is an endless, cheap stream of random bytes.
func random() io.Reader {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	return rand.NewChaCha8(seed)
}

// transfer sends bulk from one end and then half-closes. It returns when a part has arrived. finish waits for the rest, and fails
// the test if it differs.
func transfer(t *testing.T, from, to *net.TCPConn) (finish func()) {
	t.Helper()
	return transferOf(t, from, to, bulk)
}

// transferOf is like transfer, with another size than bulk.
func transferOf(t *testing.T, from, to *net.TCPConn, bulk int64) (finish func()) {
	t.Helper()
	sent := make(chan delivery, 1)
	go func() {
		d := send(from, bulk)
		d.err = errors.Join(d.err, from.CloseWrite())
		sent <- d
	}()
	h := sha256.New()
	part, err := io.CopyN(h, to, bulk/64)
	nstest.Must(t, err)
	return func() {
		t.Helper()
		rest, err := io.Copy(h, to)
		d := <-sent
		if err := errors.Join(err, d.err); err != nil || part+rest != bulk || digest(h.Sum(nil)) != d.sum {
			t.Fatalf("%d of %d bytes arrived, or others: %v", part+rest, bulk, err)
		}
	}
}

// randomFile writes n random bytes to a new file.
func randomFile(t *testing.T, path string, n int64) digest {
	t.Helper()
	f, err := os.Create(path)
	nstest.Must(t, err)
	d := send(f, n)
	nstest.Must(t, errors.Join(d.err, f.Close()))
	return d.sum
}

func sumFile(t *testing.T, path string) digest {
	t.Helper()
	f, err := os.Open(path)
	nstest.Must(t, err)
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	nstest.Must(t, err)
	return digest(h.Sum(nil))
}
