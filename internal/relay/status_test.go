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
	"portredirector/internal/testnet/nstest"
)

// answering relays a pair whose dialed side has to send a status first.
func answering(t *testing.T, w way, p relay.Pair) (peer, service *net.TCPConn, result chan relay.Result) {
	t.Helper()
	peer, acceptedEnd := tcpPair(t)
	dialedEnd, service := tcpPair(t)
	p.Accepted, p.Dialed = detach(t, acceptedEnd), detach(t, dialedEnd)
	result = make(chan relay.Result, 1)
	p.Done = func(r relay.Result) { result <- r }
	w.relay(t, newEngine(t, relay.Options{}), p)
	t.Cleanup(func() { _, _ = peer.Close(), service.Close() })
	return peer, service, result
}

func TestStatus(t *testing.T) { bothWays(t, testStatus) }

func testStatus(t *testing.T, w way) {
	var got byte
	peer, service, result := answering(t, w, relay.Pair{
		StatusTimeout: time.Minute,
		OnStatus:      func(b byte) error { got = b; return nil },
	})
	// Much goes up, and ends, before the answer.
	data := bytes.Repeat([]byte("0123456789"), 500_000)
	go func() {
		_, _ = peer.Write(data)
		_ = peer.CloseWrite()
	}()
	if b, err := io.ReadAll(service); err != nil || !bytes.Equal(b, data) {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	nstest.Must(t, second(service.Write([]byte("\x07and more"))))
	nstest.Must(t, service.Close())
	if b, err := io.ReadAll(peer); err != nil || string(b) != "and more" {
		t.Fatalf("%q, %v", b, err)
	}
	if r := <-result; r.End != relay.Finished || r.Up != int64(len(data)) || r.Down != 8 || got != 7 {
		t.Errorf("answer %d, %+v", got, r)
	}
}

func TestNoStatus(t *testing.T) { bothWays(t, noStatus) }

func noStatus(t *testing.T, w way) {
	refusal := errors.New("no")
	tests := map[string]struct {
		timeout time.Duration
		act     func(peer, service *net.TCPConn)
		end     relay.End
		err     error
	}{
		"refused": {
			act: func(_, service *net.TCPConn) { _, _ = service.Write([]byte("\x01")) },
			end: relay.Refused, err: refusal,
		},
		"too late": {
			timeout: time.Millisecond, act: func(_, _ *net.TCPConn) {},
			end: relay.Refused, err: relay.ErrNoStatus,
		},
		"ended": {
			act: func(_, service *net.TCPConn) { _ = service.CloseWrite() },
			end: relay.Refused,
		},
		"the peer resets": {
			act: func(peer, _ *net.TCPConn) { resetting(peer) },
			end: relay.AcceptedReset,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			peer, service, result := answering(t, w, relay.Pair{
				StatusTimeout: tt.timeout, OnStatus: func(byte) error { return refusal },
			})
			tt.act(peer, service)
			if name != "the peer resets" {
				wantReset(t, peer)
			}
			wantReset(t, service)
			if r := <-result; r.End != tt.end || tt.err != nil && !errors.Is(r.Err, tt.err) || r.Err == nil {
				t.Errorf("ended as %s: %v", r.End, r.Err)
			}
		})
	}
}

// TestPanicEndsItsPairOnly checks that a panic in a callback on the loop ends that pair only.
func TestPanicEndsItsPairOnly(t *testing.T) {
	engine := newEngine(t, relay.Options{Loops: 1})
	peer, acceptedEnd := tcpPair(t)
	dialedEnd, service := tcpPair(t)
	defer peer.Close()
	result := make(chan relay.Result, 1)
	engine.Relay(relay.Pair{
		Accepted: detach(t, acceptedEnd), Dialed: detach(t, dialedEnd),
		OnStatus: func(byte) error { panic("a bug") },
		Done:     func(r relay.Result) { result <- r },
	})
	other := &rig{engine: engine, result: make(chan relay.Result, 1)}
	other.connect(t)
	nstest.Must(t, second(service.Write([]byte{0})))
	if r := <-result; r.End != relay.Failed || !strings.Contains(r.Err.Error(), "a bug") {
		t.Errorf("it ended as %s: %v", r.End, r.Err)
	}
	wantReset(t, peer)
	wantReset(t, service)
	nstest.Must(t, oneWay(other.peer, other.service))
	nstest.Must(t, oneWay(other.service, other.peer))
	other.wantResult(t, bulk, bulk, relay.Finished)
}
