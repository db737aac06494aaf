package client_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"portredirector/internal/wire"
)

// again are the answers after which a peer is offered to the next server.
var again = map[wire.Status]bool{
	wire.Unreachable: true, wire.NoService: true, wire.Draining: true, wire.Internal: true, wire.Busy: true,
}

// TestEachStatus goes through the answers that are no consent, with a second server
// there: either that one gets the peer, and all that it said once, or the peer is reset.
func TestEachStatus(t *testing.T) {
	for _, status := range []wire.Status{1, 2, 3, 4, 5, 6, 7, 8, 9, 'H', 0xff} {
		for _, size := range []int{0, 5, 64 << 10, 1 << 20} {
			t.Run(status.String(), func(t *testing.T) {
				t.Parallel()
				r := newRigOf(t, wire.Native, 2)
				peer := r.visit(t)
				data := bytes.Repeat([]byte("x"), size)
				go func() {
					_, _ = peer.Write(data)
					_ = peer.CloseWrite()
				}()
				first, h, _ := r.link(t)
				if size > 0 {
					read(t, first, string(data[:min(size, 64<<10)]))
				}
				write(t, first, string([]byte{byte(status)}))
				if !again[status] {
					wantReset(t, peer)
					text := status.String()
					if !status.Known() {
						text = fmt.Sprintf("%#02x", byte(status))
						r.wantLog(t, "server is not portredirector, leaving it out")
					}
					r.wantLog(t, "peer refused", text)
					wantNoLink(t, r.other)
					return
				}
				second, h2, _ := linkTo(t, r.other)
				if h2 != h {
					t.Errorf("the second server is told %v, the first was told %v", h2, h)
				}
				write(t, second, "\x00welcome")
				read(t, peer, "welcome")
				if b, err := io.ReadAll(second); err != nil || !bytes.Equal(b, data) {
					t.Errorf("%d bytes of %d arrived, %v", len(b), size, err)
				}
				wantReset(t, first)
				if strings.Contains(r.log.String(), "peer refused") {
					t.Error("the log says that the peer was refused")
				}
			})
		}
	}
}

// TestBothRefuse: when all servers were asked, the peer is reset.
func TestBothRefuse(t *testing.T) {
	r := newRigOf(t, wire.Native, 2)
	peer := r.visit(t)
	l, _, _ := r.link(t)
	write(t, l, "\x02")
	l, _, _ = linkTo(t, r.other)
	write(t, l, "\x03")
	wantReset(t, peer)
	r.wantLog(t, "peer refused", "no service", r.other.Addr().String())
	wantNoLink(t, r.server)
}

// TestDeadLink: of a link that ends without an answer a peer goes to the next server
// only if it had said nothing.
func TestDeadLink(t *testing.T) {
	for _, said := range []string{"", "hello"} {
		r := newRigOf(t, wire.Native, 2)
		peer := r.visit(t)
		write(t, peer, said)
		l, _, _ := r.link(t)
		read(t, l, said)
		_ = l.Close()
		if said == "" {
			second, _, _ := linkTo(t, r.other)
			write(t, second, "\x00welcome")
			read(t, peer, "welcome")
			continue
		}
		wantReset(t, peer)
		wantNoLink(t, r.other)
	}
}

// TestOneServerDrains: with no other, a peer waits until it is back, and loses nothing.
func TestOneServerDrains(t *testing.T) {
	r := newRig(t, wire.Native)
	peer := r.visit(t)
	write(t, peer, "hello")
	l, _, _ := r.link(t)
	read(t, l, "hello")
	addr := r.server.Addr().(*net.TCPAddr)
	_ = r.server.Close()
	write(t, l, "\x06")
	wantReset(t, l)
	time.Sleep(300 * time.Millisecond) // away for some tries
	back, err := net.ListenTCP("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	second, _, _ := linkTo(t, back)
	read(t, second, "hello")
	write(t, second, "\x00welcome")
	read(t, peer, "welcome")
	r.wantLog(t, "server drains", "server is back")
}

// TestDrainIsToldOnce: a server that tells one more peer that it drains is not back for that.
func TestDrainIsToldOnce(t *testing.T) {
	r := newRigOf(t, wire.Native, 2)
	first, second := r.visit(t), r.visit(t)
	l1, _, _ := r.link(t)
	l2, _, _ := r.link(t)
	_ = r.server.Close()
	for _, l := range []*net.TCPConn{l1, l2} {
		write(t, l, "\x06")
		next, _, _ := linkTo(t, r.other)
		write(t, next, "\x00welcome")
	}
	read(t, first, "welcome")
	read(t, second, "welcome")
	if log := r.log.String(); strings.Count(log, "server drains") != 1 || strings.Contains(log, "server is back") {
		t.Errorf("the log does not say once that the server drains, or that it is back:\n%s", log)
	}
}

// TestOthersAreNotAsked: a server that does not answer gives nothing back.
func TestOthersAreNotAsked(t *testing.T) {
	for _, form := range []wire.Form{wire.V2, wire.V1, wire.Py} {
		r := newRigOf(t, form, 2)
		peer := r.visit(t)
		l, h, _ := r.link(t)
		if h.Answer {
			t.Error("an answer is asked for")
		}
		write(t, l, "\x06bytes")
		read(t, peer, "\x06bytes")
		_ = l.Close()
		wantNoLink(t, r.other)
	}
}

// wantNoLink fails the test if there is a link to a server now.
func wantNoLink(t *testing.T, server *net.TCPListener) {
	t.Helper()
	_ = server.SetDeadline(time.Now().Add(50 * time.Millisecond))
	if c, err := server.AcceptTCP(); err == nil {
		defer c.Close()
		if _, _, err := wire.Read(c); err == nil {
			t.Error("it was offered to one more server")
		}
	}
}

// TestServerHangs: a peer that has said nothing goes to another server when its own does not answer, long before the time for
// an answer is over. One that has said something stays, because the server may have it.
func TestServerHangs(t *testing.T) {
	r := newRigOf(t, wire.Native, 2)
	quiet, talks := r.visit(t), r.visit(t)
	write(t, talks, "hello")
	for range 2 {
		r.link(t) // its header is read, and not answered
	}
	l, h, _ := linkTo(t, r.other)
	if h.Source.String() != quiet.LocalAddr().String() {
		t.Errorf("the other server got %s", h.Source)
	}
	write(t, l, "\x00welcome")
	read(t, quiet, "welcome")
	wantNoLink(t, r.other)
	r.wantLog(t, "leaving it out", r.server.Addr().String(), "does not answer")
}
