package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/client"
	"portredirector/internal/ports"
	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/upstream"
	"portredirector/internal/wire"
	"portredirector/internal/wire/wiretest"
)

// rig is a client between a peer and a server that the test plays.
type rig struct {
	log    safeBuffer
	peers  *net.TCPListener
	server *net.TCPListener
	other  *net.TCPListener // a second server
	client *client.Client
	ctx    context.Context
	cut    context.CancelFunc
}

type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func newRig(t *testing.T, form wire.Form) *rig {
	t.Helper()
	return newRigOf(t, form, 1)
}

// newRigOf returns a rig with one or two servers.
func newRigOf(t *testing.T, form wire.Form, servers int) *rig {
	t.Helper()
	return newRigWithPool(t, form, servers, 0)
}

// newRigWithPool returns a rig whose client keeps up to links idle links.
func newRigWithPool(t *testing.T, form wire.Form, servers, links int) *rig {
	t.Helper()
	engine, err := relay.New(relay.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{peers: listen(t), server: listen(t), other: listen(t)}
	r.ctx, r.cut = context.WithCancel(context.Background())
	r.client = &client.Client{
		Form: form, Relay: engine, OpenTimeout: 30 * time.Second,
		Log: slog.New(slog.NewTextHandler(&r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	r.client.Throttle.To = r.client.Log
	r.client.Servers = upstream.New(upstream.Config{
		Servers: []string{r.server.Addr().String(), r.other.Addr().String()}[:servers], Answers: form == wire.Native, PoolMax: links, ConnectTimeout: 5 * time.Second, Log: r.client.Log,
	})
	var running sync.WaitGroup
	running.Go(func() { _ = r.client.Servers.Run(r.ctx) })
	t.Cleanup(func() {
		r.cut()
		_ = engine.Shutdown(r.ctx)
		running.Wait()
	})
	return r
}

// visit makes a peer connect, and returns its end.
func (r *rig) visit(t *testing.T) *net.TCPConn {
	t.Helper()
	c, err := net.DialTCP("tcp", nil, r.peers.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	accepted, err := r.peers.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := socket.Detach(accepted)
	if err != nil {
		t.Fatal(err)
	}
	r.client.Handle(fd, c.LocalAddr().(*net.TCPAddr).AddrPort())
	return c
}

// link is the server's end of the next link, its header read.
func (r *rig) link(t *testing.T) (*wiretest.End, wire.Header) {
	t.Helper()
	return linkTo(t, r.server)
}

// linkTo is the end of the next link to a server.
func linkTo(t *testing.T, server *net.TCPListener) (*wiretest.End, wire.Header) {
	t.Helper()
	_ = server.SetDeadline(time.Now().Add(10 * time.Second))
	for {
		c, err := server.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		l := wiretest.Server(c)
		h, err := l.ReadHeader()
		if err != nil {
			t.Fatal(err)
		}
		if !h.Local {
			return l, h
		}
		answer(t, l, wire.Connected) // to the health check
	}
}

// answer sends a status, and the first bytes of the service.
func answer(t *testing.T, l *wiretest.End, s wire.Status, more ...string) {
	t.Helper()
	if err := l.SendStatus(s); err != nil {
		t.Fatal(err)
	}
	for _, m := range more {
		write(t, l, m)
	}
}

// end ends the direction of the service.
func end(t *testing.T, l *wiretest.End) {
	t.Helper()
	if err := l.CloseWrite(); err != nil {
		t.Fatal(err)
	}
}

// wantLog waits until the log says all of it.
func (r *rig) wantLog(t *testing.T, want ...string) {
	t.Helper()
	for range 1000 {
		log := r.log.String()
		if !slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(log, w) }) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the log does not say %q: %s", want, r.log.String())
}

// wantReset wants the reset of a connection, or of what a link carries.
func wantReset(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, err := io.Copy(io.Discard, c)
	if err == nil { // a write may have taken the error, and then fails again
		_, err = c.Write([]byte("x"))
	}
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("got %v, want a reset", err)
	}
}

func write(t *testing.T, c io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, c net.Conn, want string) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("read %q, %v, want %q", b, err, want)
	}
}

func TestHeaderTellsWhoThePeerIs(t *testing.T) {
	for _, form := range []wire.Form{wire.Native, wire.V2, wire.V1, wire.Py} {
		t.Run(form.String(), func(t *testing.T) {
			r := newRig(t, form)
			peer := r.visit(t)
			write(t, peer, "hello")
			end, h := r.link(t)
			l := net.Conn(end)
			if form != wire.Native {
				l = end.Conn
			}
			if h.Source.String() != peer.LocalAddr().String() {
				t.Errorf("the source is %s, want %s", h.Source, peer.LocalAddr())
			}
			if port := r.peers.Addr().(*net.TCPAddr).Port; int(h.Destination.Port()) != port {
				t.Errorf("the destination is %s, want port %d", h.Destination, port)
			}
			if h.Answer != (form == wire.Native) || h.ID.IsZero() == h.Answer {
				t.Errorf("answer %v, id %s", h.Answer, h.ID)
			}
			// The peer's bytes do not wait for an answer.
			read(t, l, "hello")
			if h.Answer {
				answer(t, end, wire.Connected)
			}
			write(t, l, "welcome")
			read(t, peer, "welcome")
			write(t, peer, "more")
			read(t, l, "more")
		})
	}
}

// TestServerSpeaksFirst: a peer that waits for the service gets its greeting.
func TestServerSpeaksFirst(t *testing.T) {
	r := newRig(t, wire.Native)
	peer := r.visit(t)
	l, _ := r.link(t)
	answer(t, l, wire.Connected, "220 ready\r\n")
	read(t, peer, "220 ready\r\n")
}

// TestPeerHalfClosesBeforeTheAnswer: its end must not be lost.
func TestPeerHalfClosesBeforeTheAnswer(t *testing.T) {
	r := newRig(t, wire.Native)
	peer := r.visit(t)
	write(t, peer, "request")
	if err := peer.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	l, _ := r.link(t)
	read(t, l, "request")
	answer(t, l, wire.Connected)
	if n, err := l.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("the server read %d, %v, want the end", n, err)
	}
	write(t, l, "reply")
	end(t, l)
	if b, err := io.ReadAll(peer); err != nil || string(b) != "reply" {
		t.Fatalf("the peer read %q, %v", b, err)
	}
}

// TestMuchBeforeTheAnswer: a peer that sends more than the early limit before
// the answer loses nothing.
func TestMuchBeforeTheAnswer(t *testing.T) {
	r := newRig(t, wire.Native)
	peer := r.visit(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	go func() {
		_, _ = peer.Write(data)
		_ = peer.CloseWrite()
	}()
	l, _ := r.link(t)
	early := make([]byte, 64<<10)
	if _, err := io.ReadFull(l, early); err != nil {
		t.Fatal(err)
	}
	answer(t, l, wire.Connected)
	rest, err := io.ReadAll(l)
	if err != nil || !bytes.Equal(append(early, rest...), data) {
		t.Fatalf("%d bytes arrived, %v", len(early)+len(rest), err)
	}
}

// TestRefusals: whatever keeps a peer from being served resets it.
func TestRefusals(t *testing.T) {
	for status := wire.Refused; status <= wire.Internal; status++ {
		t.Run(status.String(), func(t *testing.T) {
			r := newRig(t, wire.Native)
			if status == wire.Draining { // that one is waited for
				r.client.OpenTimeout = 0
			}
			peer := r.visit(t)
			l, _ := r.link(t)
			answer(t, l, status)
			wantReset(t, peer)
			wantReset(t, l)
			r.wantLog(t, "peer refused", status.String(), r.server.Addr().String(), peer.LocalAddr().String())
		})
	}
	t.Run("while the peer sends", func(t *testing.T) {
		r := newRig(t, wire.Native)
		peer := r.visit(t)
		go func() { _, _ = peer.Write(make([]byte, 1<<20)) }()
		l, _ := r.link(t)
		answer(t, l, wire.Refused)
		_ = l.Close() // with unread bytes: a reset follows the answer
		wantReset(t, peer)
		r.wantLog(t, "peer refused", wire.Refused.String())
	})
	t.Run("no answer in time", func(t *testing.T) {
		r := newRig(t, wire.Native)
		r.client.OpenTimeout = 50 * time.Millisecond
		peer := r.visit(t)
		l, _ := r.link(t)
		wantReset(t, peer)
		wantReset(t, l.Conn)
		r.wantLog(t, "peer refused", "no answer in time")
	})
	t.Run("no answer at all", func(t *testing.T) {
		r := newRig(t, wire.Native)
		r.client.OpenTimeout = 200 * time.Millisecond
		peer := r.visit(t)
		l, _ := r.link(t)
		_ = l.Close()
		wantReset(t, peer)
	})
	t.Run("the server is away", func(t *testing.T) {
		r := newRig(t, wire.Native)
		r.client.OpenTimeout = 200 * time.Millisecond
		_ = r.server.Close()
		peer := r.visit(t)
		wantReset(t, peer)
	})
	t.Run("the client is cut", func(t *testing.T) {
		r := newRig(t, wire.Native)
		peer := r.visit(t)
		l, _ := r.link(t)
		r.cut()
		_ = r.client.Relay.Shutdown(r.ctx)
		wantReset(t, peer)
		wantReset(t, l.Conn)
	})
}

// TestPeerResetsBeforeTheAnswer: the server gets a reset frame.
func TestPeerResetsBeforeTheAnswer(t *testing.T) {
	r := newRig(t, wire.Native)
	peer := r.visit(t)
	l, _ := r.link(t)
	_ = peer.SetLinger(0)
	_ = peer.Close()
	wantReset(t, l)
}

// TestNamedPort checks that log lines about a peer have the name of its port.
func TestNamedPort(t *testing.T) {
	r := newRig(t, wire.Native)
	r.client.Names = map[ports.Port]string{{Number: r.peers.Addr().(*net.TCPAddr).AddrPort().Port()}: "web"}
	r.visit(t)
	r.link(t)
	r.wantLog(t, "peer connects", "service=web")
}
