package relay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
	"portredirector/internal/wire/wiretest"
)

var errElsewhere = fmt.Errorf("try another: %w", relay.ErrUndelivered)

// again relays a peer to one service and, when that gives it back, to another.
type again struct {
	peer          *net.TCPConn
	first, second *farLink
	back          chan relay.Undelivered
	result        chan relay.Result
	freed         chan int // the links that OnFree of the first got
}

func newAgain(t *testing.T, timeout time.Duration) *again {
	t.Helper()
	a := &again{back: make(chan relay.Undelivered, 1), result: make(chan relay.Result, 1), freed: make(chan int, 2)}
	engine := newEngine(t, relay.Options{})
	var acceptedEnd *net.TCPConn
	var near, other linkEnd
	a.peer, acceptedEnd = tcpPair(t)
	near, a.first = linked.farLink(t, engine, false)
	other, a.second = linked.farLink(t, engine, false)
	t.Cleanup(func() { _, _, _ = a.peer.Close(), a.first.Conn.Close(), a.second.Conn.Close() })
	answer := func(s wire.Status, _ wire.Ban) error {
		return map[wire.Status]error{wire.Draining: errElsewhere}[s]
	}
	done := func(r relay.Result) { a.result <- r }
	engine.Relay(relay.Pair{
		Accepted: detach(t, acceptedEnd), Dialed: near.fd, Framed: relay.DialedLink, UpPrefix: []byte("[first]"),
		OnStatus: answer, StatusTimeout: timeout, Done: done,
		OnFree: func(link int, said []byte) {
			closeLink(link, said)
			a.freed <- link
		},
		OnUndelivered: func(_ context.Context, u relay.Undelivered) {
			engine.Relay(relay.Pair{
				Accepted: u.Accepted, Dialed: other.fd, Framed: relay.DialedLink, UpPrefix: []byte("[second]"),
				Peeked: u.Peeked, PeekedEOF: u.PeekedEOF,
				OnStatus: answer, Done: done, OnFree: closeLink,
			})
			a.back <- u
		},
	})
	return a
}

// TestUndelivered checks that the bytes of a peer of which nothing was delivered go to the
// next service, all of them and once.
func TestUndelivered(t *testing.T) {
	const most = relay.MaxKept
	for _, size := range []int{0, 1, 5, 1 << 10, most - 1, most, most + 1, 10 * most, 100 * most} {
		for _, ended := range []bool{false, true} {
			t.Run(fmt.Sprint(size, ended), func(t *testing.T) {
				a := newAgain(t, 0)
				data := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					_, _ = a.peer.Write(data)
					if ended {
						_ = a.peer.CloseWrite()
					}
				}()
				wantRead(t, a.first.Conn, "[first]")
				wantRead(t, a.first, string(data[:min(size, most)]))
				if ended && size < most {
					if b, err := io.ReadAll(a.first); err != nil || len(b) > 0 {
						t.Fatalf("after the payload: %d bytes, %v", len(b), err)
					}
				} else if n := tryRead(a.first); n > 0 {
					t.Fatalf("%d bytes more than are kept went up before the answer", n)
				}
				nstest.Must(t, a.first.SendStatus(wire.Draining))
				u := <-a.back
				if !errors.Is(u.Err, errElsewhere) || !bytes.Equal(u.Peeked, data[:len(u.Peeked)]) || len(u.Peeked) > most {
					t.Fatalf("given back with %d bytes, for %v", len(u.Peeked), u.Err)
				}
				if link := <-a.freed; link < 0 {
					t.Error("the link is lost")
				}
				nstest.Must(t, a.second.SendStatus(wire.Connected), second(a.second.Write([]byte("welcome"))))
				wantRead(t, a.peer, "welcome")
				wantRead(t, a.second.Conn, "[second]")
				wantRead(t, a.second, string(data))
				<-sent
				if !ended {
					nstest.Must(t, a.peer.CloseWrite())
				}
				if b, err := io.ReadAll(a.second); err != nil || len(b) > 0 {
					t.Fatalf("after the payload: %d bytes, %v", len(b), err)
				}
				nstest.Must(t, a.second.CloseWrite())
				if r := <-a.result; r.End != relay.Finished || r.Up != int64(size) || r.Down != 7 {
					t.Errorf("it ended as %+v", r)
				}
			})
		}
	}
}

// TestUnansweredIsUndeliveredOnlyUnwritten checks that without a status a peer is given back
// only if none of its bytes were written.
func TestUnansweredIsUndeliveredOnlyUnwritten(t *testing.T) {
	for name, tt := range map[string]struct {
		timeout time.Duration
		act     func(first *farLink)
	}{
		"reset":    {act: func(first *farLink) { resetting(first.Conn) }},
		"ended":    {act: func(first *farLink) { _ = first.Conn.CloseWrite() }},
		"too late": {timeout: time.Millisecond, act: func(*farLink) {}},
	} {
		t.Run(name+", silent peer", func(t *testing.T) {
			a := newAgain(t, tt.timeout)
			wantRead(t, a.first.Conn, "[first]")
			tt.act(a.first)
			<-a.back
			wantRead(t, a.second.Conn, "[second]")
			nstest.Must(t, a.second.SendStatus(wire.Connected))
			nstest.Must(t, second(a.peer.Write([]byte("hello"))))
			wantRead(t, a.second, "hello")
		})
		t.Run(name+", peer that spoke", func(t *testing.T) {
			a := newAgain(t, tt.timeout)
			nstest.Must(t, second(a.peer.Write([]byte("hello"))))
			wantRead(t, a.first.Conn, "[first]")
			wantRead(t, a.first, "hello")
			tt.act(a.first)
			if r := <-a.result; r.End != relay.Refused || r.Err == nil {
				t.Errorf("it ended as %+v", r)
			}
			wantReset(t, a.peer)
			if n := tryRead(a.second.Conn); n > 0 {
				t.Errorf("%d bytes went to the other", n)
			}
		})
	}
}

// TestFinalStatus checks that a status which is no ErrUndelivered ends the pair.
func TestFinalStatus(t *testing.T) {
	final := errors.New("no")
	a := newAnswering(t, linked, relay.Pair{
		OnStatus:      func(wire.Status, wire.Ban) error { return final },
		OnUndelivered: func(context.Context, relay.Undelivered) { t.Error("it was given back") },
	})
	nstest.Must(t, a.server.SendStatus(wire.Refused))
	wantReset(t, a.peer)
	if r := <-a.result; r.End != relay.Refused || !errors.Is(r.Err, final) {
		t.Errorf("it ended as %+v", r)
	}
	a.wantLink(t, true, wiretest.ErrReset)
}

// TestSilentPreface checks that OnIdle gets a silent socket when its time is over, at
// Expire, and at Shutdown. Expire resets one that has said something.
func TestSilentPreface(t *testing.T) {
	for _, how := range []string{"late", "expired", "shut down"} {
		t.Run(how, func(t *testing.T) {
			engine := newEngine(t, relay.Options{})
			type opening struct {
				peer   *net.TCPConn
				opened relay.Pending
				heard  chan string
				silent chan struct{}
				gone   chan error
			}
			open := func() *opening {
				peer, end := tcpPair(t)
				o := &opening{peer: peer, heard: make(chan string, 10), silent: make(chan struct{}), gone: make(chan error, 1)}
				opening := relay.Preface{
					Accepted: detach(t, end), Timeout: time.Minute,
					OnData: func(said []byte) (relay.Next, error) {
						o.heard <- string(said)
						return relay.Next{}, nil
					},
					OnIdle: func(_ context.Context, fd int) {
						socket.Close(fd)
						close(o.silent)
					},
					OnError: func(err error) { o.gone <- err },
				}
				if how == "late" {
					opening.IdleTimeout = time.Millisecond
				}
				o.opened = engine.ReadPreface(opening)
				return o
			}
			silent, speaking := open(), open()
			nstest.Must(t, second(speaking.peer.Write([]byte("x"))))
			<-speaking.heard
			ended := make(chan error, 1)
			switch how {
			case "expired":
				silent.opened.Expire()
				speaking.opened.Expire()
			case "shut down":
				go func() { ended <- engine.Shutdown(context.Background()) }()
			}
			<-silent.silent
			if b, err := io.ReadAll(silent.peer); err != nil || len(b) > 0 {
				t.Errorf("the silent one read %q, %v", b, err)
			}
			silent.opened.Expire() // it is gone, and nothing happens
			switch how {
			case "shut down":
				nstest.Must(t, <-ended)
				return
			case "late":
				nstest.Must(t, second(speaking.peer.Write([]byte("y"))))
				if got := <-speaking.heard; got != "xy" {
					t.Errorf("the other was heard saying %q", got)
				}
				speaking.opened.Expire()
			}
			wantReset(t, speaking.peer)
			if err := <-speaking.gone; !errors.Is(err, relay.ErrExpired) {
				t.Errorf("the other is gone for %v", err)
			}
		})
	}
}

// wantRead reads, and fails the test unless it reads want.
func wantRead(t *testing.T, c end, want string) {
	t.Helper()
	nstest.Must(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	b := make([]byte, len(want))
	if n, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("read %d bytes, %v, or others than the %d expected", n, err, len(want))
	}
	nstest.Must(t, c.SetReadDeadline(time.Time{}))
}

// tryRead returns how many bytes come in a moment.
func tryRead(c end) int {
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	n, _ := c.Read(make([]byte, 1<<16))
	_ = c.SetReadDeadline(time.Time{})
	return n
}

// TestDownPrefixBeforeReset checks that DownPrefix goes before the reset of a service that
// accepts and resets at once: it was connected.
func TestDownPrefixBeforeReset(t *testing.T) {
	l, engine := listenTCP(t), newEngine(t, relay.Options{Loops: 1})
	for range 200 {
		peer, acceptedEnd := tcpPair(t)
		d, err := socket.Connect(netip.AddrPort{}, l.Addr().(*net.TCPAddr).AddrPort(), net.KeepAliveConfig{}, nil)
		nstest.Must(t, err)
		service, err := l.AcceptTCP()
		nstest.Must(t, err)
		resetting(service)
		result := make(chan relay.Result, 1)
		engine.Relay(relay.Pair{
			Accepted: detach(t, acceptedEnd), Dialed: d, DownPrefix: []byte("connected"), UpPrefix: []byte("x"),
			Done: func(r relay.Result) { result <- r },
		})
		if r := <-result; r.End != relay.DialedReset {
			t.Fatalf("it ended as %+v", r)
		}
		b, err := io.ReadAll(peer)
		if string(b) != "connected" || err == nil {
			t.Fatalf("the other end read %q, %v", b, err)
		}
		_ = peer.Close()
	}
}

// TestPrefaceHearsAllThatWasSaid checks that what was read before is heard whole, also if it
// is longer than the buffer of a loop.
func TestPrefaceHearsAllThatWasSaid(t *testing.T) {
	engine := newEngine(t, relay.Options{Loops: 1})
	peer, end := tcpPair(t)
	defer peer.Close()
	said, heard := bytes.Repeat([]byte("0123456789"), 10<<10), make(chan []byte, 1)
	engine.ReadPreface(relay.Preface{
		Accepted: detach(t, end), Said: said,
		OnData: func(b []byte) (relay.Next, error) {
			heard <- bytes.Clone(b)
			return relay.Next{HandOver: func(_ context.Context, fd int) { socket.Close(fd) }}, nil
		},
	})
	if got := <-heard; !bytes.Equal(got, said) {
		t.Errorf("%d bytes were heard, not the %d that were said", len(got), len(said))
	}
}
