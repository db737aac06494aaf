package client_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
	"portredirector/internal/wire/wiretest"
)

// again are the answers after which a peer is offered to the next server.
var again = map[wire.Status]bool{
	wire.Unreachable: true, wire.NoService: true, wire.Draining: true, wire.Internal: true, wire.Busy: true,
}

// TestEachStatus goes through the answers that are no consent, with a second server
// there: either that one gets the peer, and all that it said once, or the peer is reset.
func TestEachStatus(t *testing.T) {
	for status := wire.Refused; status.Known(); status++ {
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
				first, h := r.link(t)
				if size > 0 {
					read(t, first, string(data[:min(size, 64<<10)]))
				}
				answer(t, first, status)
				if !again[status] {
					wantReset(t, peer)
					r.wantLog(t, "peer refused", status.String())
					wantNoLink(t, r.other)
					return
				}
				second, h2 := linkTo(t, r.other)
				if h2 != h {
					t.Errorf("the second server is told %v, the first was told %v", h2, h)
				}
				answer(t, second, wire.Connected, "welcome")
				read(t, peer, "welcome")
				if b, err := io.ReadAll(second); err != nil || !bytes.Equal(b, data) {
					t.Errorf("%d bytes of %d arrived, %v", len(b), size, err)
				}
				wantOver(t, first)
				if strings.Contains(r.log.String(), "peer refused") {
					t.Error("the log says that the peer was refused")
				}
			})
		}
	}
}

// wantOver wants a terminator of the exchange, or the reset of the link.
func wantOver(t *testing.T, l *wiretest.End) {
	t.Helper()
	_ = l.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, l); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want the end or a reset", err)
	}
}

// TestForeignServer runs a server that answers something else than a status. It may have taken the header and the peer's bytes for a
// request, so the peer is reset, and the server is left out.
func TestForeignServer(t *testing.T) {
	for name, said := range map[string]string{
		"HTTP":             "HTTP/1.1 400 Bad Request\r\n",
		"a status only":    "\x00SSH-2.0-OpenSSH",
		"an unknown one":   string(wire.AppendFrame(nil, wire.KindStatus, 9)),
		"a long one":       string(wire.AppendFrame(nil, wire.KindStatus, 0, 0)),
		"data":             string(wire.AppendFrame(nil, wire.KindData, 'x')),
		"the end":          string(wire.AppendFrame(nil, wire.KindEnd)),
		"a reset":          string(wire.AppendFrame(nil, wire.KindReset)),
		"an unknown frame": string(wire.AppendFrame(nil, 7)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRigOf(t, wire.Native, 2)
			peer := r.visit(t)
			write(t, peer, "hello")
			l, _ := r.link(t)
			read(t, l, "hello")
			write(t, l.Conn, said)
			wantReset(t, peer)
			wantReset(t, l.Conn)
			r.wantLog(t, "peer refused", "unexpected frame", "server is not portredirector, leaving it out")
			wantNoLink(t, r.other)
		})
	}
}

// TestBothRefuse: when all servers were asked, the peer is reset.
func TestBothRefuse(t *testing.T) {
	r := newRigOf(t, wire.Native, 2)
	peer := r.visit(t)
	l, _ := r.link(t)
	answer(t, l, wire.Unreachable)
	l, _ = linkTo(t, r.other)
	answer(t, l, wire.NoService)
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
		l, _ := r.link(t)
		read(t, l, said)
		_ = l.Close()
		if said == "" {
			second, _ := linkTo(t, r.other)
			answer(t, second, wire.Connected, "welcome")
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
	l, _ := r.link(t)
	read(t, l, "hello")
	addr := r.server.Addr().(*net.TCPAddr)
	_ = r.server.Close()
	answer(t, l, wire.Draining)
	wantReset(t, l)
	time.Sleep(300 * time.Millisecond) // away for some tries
	back, err := net.ListenTCP("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	second, _ := linkTo(t, back)
	read(t, second, "hello")
	answer(t, second, wire.Connected, "welcome")
	read(t, peer, "welcome")
	r.wantLog(t, "server drains", "server is back")
}

// TestDrainIsToldOnce: a server that tells one more peer that it drains is not back for that.
func TestDrainIsToldOnce(t *testing.T) {
	r := newRigOf(t, wire.Native, 2)
	first, second := r.visit(t), r.visit(t)
	l1, _ := r.link(t)
	l2, _ := r.link(t)
	_ = r.server.Close()
	for _, l := range []*wiretest.End{l1, l2} {
		answer(t, l, wire.Draining)
		next, _ := linkTo(t, r.other)
		answer(t, next, wire.Connected, "welcome")
	}
	read(t, first, "welcome")
	read(t, second, "welcome")
	if log := r.log.String(); strings.Count(log, "server drains") != 1 || strings.Contains(log, "server is back") {
		t.Errorf("the log does not say once that the server drains, or that it is back:\n%s", log)
	}
}

// TestIdleLinksAreClosed checks that a server stays in use when it closes its idle links just
// as a peer comes, however many they are.
func TestIdleLinksAreClosed(t *testing.T) {
	const links = 6
	r := newRigWithPool(t, wire.Native, 1, links)
	var closes atomic.Bool
	var byes atomic.Int32
	serve := func(l *wiretest.End, early bool) {
		defer l.Close()
		for {
			h, err := l.ReadHeader()
			switch {
			case err != nil:
				return
			case closes.Load() && early:
				byes.Add(1)
				_ = l.Bye()
				return
			}
			_ = l.SendStatus(wire.Connected)
			if h.Local {
				continue
			}
			_, _ = l.Write([]byte("welcome"))
			_ = l.CloseWrite()
			_, _ = io.Copy(io.Discard, l)
		}
	}
	go func() {
		for {
			c, err := r.server.Accept()
			if err != nil {
				return
			}
			go serve(wiretest.Server(c), !closes.Load())
		}
	}()
	var peers []*net.TCPConn
	for range links {
		peers = append(peers, r.visit(t))
	}
	for _, p := range peers {
		read(t, p, "welcome")
		_ = p.CloseWrite()
		wantEnd(t, p)
	}
	nstest.WaitFor(t, "idle links", func() bool { return strings.Count(r.log.String(), "peer gone") == links })
	closes.Store(true)
	read(t, r.visit(t), "welcome")
	if n := byes.Load(); n < links {
		t.Errorf("%d links were closed, want all %d", n, links)
	}
	if log := r.log.String(); strings.Contains(log, "leaving it out") {
		t.Errorf("the server was left out:\n%s", log)
	}
}

// wantEnd fails the test unless the connection ends in order, without more data.
func wantEnd(t *testing.T, c net.Conn) {
	t.Helper()
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
		t.Fatalf("read %q, %v, want the end", b, err)
	}
}

// TestOthersAreNotAsked: a server that does not answer gives nothing back.
func TestOthersAreNotAsked(t *testing.T) {
	for _, form := range []wire.Form{wire.V2, wire.V1, wire.Py} {
		r := newRigOf(t, form, 2)
		peer := r.visit(t)
		l, h := r.link(t)
		if h.Answer {
			t.Error("an answer is asked for")
		}
		write(t, l.Conn, "\x06bytes")
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
	l, h := linkTo(t, r.other)
	if h.Source.String() != quiet.LocalAddr().String() {
		t.Errorf("the other server got %s", h.Source)
	}
	answer(t, l, wire.Connected, "welcome")
	read(t, quiet, "welcome")
	wantNoLink(t, r.other)
	r.wantLog(t, "leaving it out", r.server.Addr().String(), "does not answer")
}
