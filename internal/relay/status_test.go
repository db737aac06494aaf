package relay_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
	"portredirector/internal/wire/wiretest"
)

// answering is a pair whose dialed side is a link.
type answering struct {
	peer   *net.TCPConn
	server *farLink
	result chan relay.Result
	freed  chan int // the links that OnFree got
}

func newAnswering(t *testing.T, w way, p relay.Pair) *answering {
	t.Helper()
	e := newEngine(t, relay.Options{})
	peer, acceptedEnd := tcpPair(t)
	near, server := w.farLink(t, e, false)
	a := &answering{peer, server, make(chan relay.Result, 1), make(chan int, 2)}
	p.Accepted, p.Dialed, p.DialedLayer, p.Framed = detach(t, acceptedEnd), near.fd, near.layer, relay.DialedLink
	p.Done = func(r relay.Result) { a.result <- r }
	p.OnFree = func(link int, _ []byte) { a.freed <- link }
	e.Relay(p)
	t.Cleanup(func() { _, _ = peer.Close(), server.Conn.Close() })
	return a
}

// wantLink checks that the link is free, or lost, and that its far end sees that, and before
// it the frame in question.
func (a *answering) wantLink(t *testing.T, free bool, frame error) {
	t.Helper()
	link := <-a.freed
	if free != (link >= 0) {
		t.Errorf("OnFree got the link %d, want it free: %v", link, free)
	}
	if !free {
		wantReset(t, a.server.Conn)
		return
	}
	defer socket.Close(link)
	_, err := io.Copy(io.Discard, a.server)
	if frame == nil && err != nil || !errors.Is(err, frame) {
		t.Errorf("the far end reads %v, want %v", err, frame)
	}
	if n := tryRead(a.server.Conn) + len(a.server.Behind()); n > 0 {
		t.Errorf("and %d bytes more", n)
	}
}

func TestStatus(t *testing.T) { eachLink(t, testStatus) }

func testStatus(t *testing.T, w way) {
	got := wire.Status(99)
	a := newAnswering(t, w, relay.Pair{
		StatusTimeout: time.Minute,
		OnStatus:      func(s wire.Status, _ wire.Ban) error { got = s; return nil },
	})
	// Much goes up, and ends, before the answer.
	data := bytes.Repeat([]byte("0123456789"), 500_000)
	go func() {
		_, _ = a.peer.Write(data)
		_ = a.peer.CloseWrite()
	}()
	if b, err := io.ReadAll(a.server); err != nil || !bytes.Equal(b, data) {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	nstest.Must(t, a.server.SendStatus(wire.Connected), second(a.server.Write([]byte("and more"))), a.server.CloseWrite())
	if b, err := io.ReadAll(a.peer); err != nil || string(b) != "and more" {
		t.Fatalf("%q, %v", b, err)
	}
	if r := <-a.result; r.End != relay.Finished || r.Up != int64(len(data)) || r.Down != 8 || got != wire.Connected {
		t.Errorf("answer %d, %+v", got, r)
	}
	a.wantLink(t, true, nil)
}

func TestNoStatus(t *testing.T) { eachLink(t, noStatus) }

func noStatus(t *testing.T, w way) {
	refusal := errors.New("no")
	tests := map[string]struct {
		timeout time.Duration
		act     func(t *testing.T, a *answering)
		end     relay.End
		err     error
		free    bool
	}{
		"refused": {
			act: func(t *testing.T, a *answering) { nstest.Must(t, a.server.SendStatus(wire.Refused)) },
			end: relay.Refused, err: refusal, free: true,
		},
		"too late": {
			timeout: time.Millisecond, act: func(*testing.T, *answering) {},
			end: relay.Refused, err: relay.ErrNoStatus,
		},
		"ended": {
			act: func(t *testing.T, a *answering) { nstest.Must(t, a.server.Conn.CloseWrite()) },
			end: relay.Refused,
		},
		"not a status": {
			act: func(t *testing.T, a *answering) { nstest.Must(t, a.server.CloseWrite()) },
			end: relay.Refused, err: wire.ErrFrame,
		},
		"bye": {
			act: func(t *testing.T, a *answering) { nstest.Must(t, a.server.Bye()) },
			end: relay.Refused, err: relay.ErrUndelivered,
		},
		"the peer resets": {
			act: func(t *testing.T, a *answering) {
				resetting(a.peer)
				if _, err := io.Copy(io.Discard, a.server); !errors.Is(err, wiretest.ErrReset) {
					t.Fatalf("the far end reads %v", err)
				}
				nstest.Must(t, a.server.SendStatus(wire.Connected), a.server.Reset())
			},
			end: relay.AcceptedReset, free: true,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := newAnswering(t, w, relay.Pair{
				StatusTimeout: tt.timeout, OnStatus: func(wire.Status, wire.Ban) error { return refusal },
			})
			tt.act(t, a)
			if name != "the peer resets" {
				wantReset(t, a.peer)
			}
			a.wantLink(t, tt.free, wiretest.ErrReset)
			if r := <-a.result; r.End != tt.end || tt.err != nil && !errors.Is(r.Err, tt.err) || r.Err == nil {
				t.Errorf("ended as %s: %v", r.End, r.Err)
			}
		})
	}
}

// TestPanicEndsItsPairOnly checks that a panic in a callback on the loop ends that pair only.
func TestPanicEndsItsPairOnly(t *testing.T) {
	engine := newEngine(t, relay.Options{Loops: 1})
	peer, acceptedEnd := tcpPair(t)
	near, server := linked.farLink(t, engine, false)
	defer peer.Close()
	result := make(chan relay.Result, 1)
	engine.Relay(relay.Pair{
		Accepted: detach(t, acceptedEnd), Dialed: near.fd, Framed: relay.DialedLink,
		OnStatus: func(wire.Status, wire.Ban) error { panic("a bug") },
		Done:     func(r relay.Result) { result <- r },
	})
	other := &rig{engine: engine, way: plain, result: make(chan relay.Result, 1)}
	other.connect(t)
	nstest.Must(t, server.SendStatus(wire.Connected))
	if r := <-result; r.End != relay.Failed || !strings.Contains(r.Err.Error(), "a bug") {
		t.Errorf("it ended as %s: %v", r.End, r.Err)
	}
	wantReset(t, peer)
	wantReset(t, server.Conn)
	nstest.Must(t, oneWay(other.peer, other.service))
	nstest.Must(t, oneWay(other.service, other.peer))
	other.wantResult(t, bulk, bulk, relay.Finished)
}
