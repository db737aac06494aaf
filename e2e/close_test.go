package e2e_test

import (
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"portredirector/internal/testnet/nstest"
)

func TestPeerHalfClosesAndServiceAnswersAfterIt(t *testing.T) {
	t.Parallel()
	s := newChain(t, loopback80).connect(t)
	transfer(t, s.peer, s.service)()
	transfer(t, s.service, s.peer)()
}

func TestServiceHalfClosesFirstAndStillReads(t *testing.T) {
	t.Parallel()
	s := newChain(t, loopback80).connect(t)
	transfer(t, s.service, s.peer)()
	transfer(t, s.peer, s.service)()
}

func TestReceiverReadsSlowlyLongAfterSenderClosed(t *testing.T) {
	t.Run("service", func(t *testing.T) {
		t.Parallel()
		s := newChain(t, loopback80).connect(t)
		readSlowly(t, s.peer, s.service)
	})
	t.Run("peer", func(t *testing.T) {
		t.Parallel()
		s := newChain(t, loopback80).connect(t)
		readSlowly(t, s.service, s.peer)
	})
}

// readSlowly sends bulk from one end, which then closes. The other end reads slowly, and until then no more than it must.
func readSlowly(t *testing.T, from, to *net.TCPConn) {
	t.Helper()
	closed := make(chan delivery, 1)
	go func() {
		d := send(from, bulk)
		d.err = errors.Join(d.err, from.Close())
		closed <- d
	}()
	var d delivery
	sending, pause := closed, time.Duration(0)
	var received int64
	h := sha256.New()
	for {
		n, err := io.CopyN(h, to, 256<<10)
		received += n
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("after %d bytes: %v", received, err)
		}
		select {
		case d = <-sending:
			sending, pause = nil, 2*time.Millisecond
			time.Sleep(100 * time.Millisecond) // for the end of the connection to be old
		default:
			time.Sleep(pause)
		}
	}
	if sending != nil {
		d = <-sending
	}
	if d.err != nil || received != bulk || digest(h.Sum(nil)) != d.sum {
		t.Errorf("%d of %d bytes arrived, or others: %v", received, int64(bulk), d.err)
	}
}

// resets lists states of a connection in which one end resets it, and how to reach them.
var resets = []struct {
	state string
	enter func(t *testing.T, resetter, other *net.TCPConn, much int64)
}{
	{"idle", func(*testing.T, *net.TCPConn, *net.TCPConn, int64) {}},
	{"resetter is sending", func(t *testing.T, resetter, other *net.TCPConn, much int64) { flowOf(t, resetter, other, much) }},
	{"resetter has half-closed", func(t *testing.T, resetter, other *net.TCPConn, _ int64) { halfClose(t, resetter, other) }},
	{"other has half-closed", func(t *testing.T, resetter, other *net.TCPConn, _ int64) { halfClose(t, other, resetter) }},
}

// TestReset resets one end in each state that a connection can be in: the other end is reset.
func TestReset(t *testing.T) {
	for _, tt := range resets {
		eachResetter(t, tt.state, func(t *testing.T, resetter, other *net.TCPConn) {
			tt.enter(t, resetter, other, bulk)
			reset(t, resetter)
			wantReset(t, other)
		})
	}
	eachResetter(t, "other is sending", func(t *testing.T, resetter, other *net.TCPConn) {
		sent := flow(t, other, resetter)
		reset(t, resetter)
		wantSenderReset(t, sent)
	})
}

// eachResetter runs a test for each end that can reset a connection, with services that are dialed in different ways.
func eachResetter(t *testing.T, name string, test func(t *testing.T, resetter, other *net.TCPConn)) {
	t.Run(name, func(t *testing.T) {
		for _, service := range []string{loopback80, guest80} {
			t.Run(service, func(t *testing.T) {
				t.Parallel()
				c := newChain(t, service)
				t.Run("peer", func(t *testing.T) {
					s := c.connect(t)
					test(t, s.peer, s.service)
				})
				t.Run("service", func(t *testing.T) {
					s := c.connect(t)
					test(t, s.service, s.peer)
				})
			})
		}
	})
}

// flow sends bulk until it fails, and returns when much of it has arrived at the other end. The channel receives the error.
func flow(t *testing.T, from, to *net.TCPConn) (sent <-chan error) {
	t.Helper()
	return flowOf(t, from, to, bulk)
}

// flowOf is like flow, with another amount than bulk.
func flowOf(t *testing.T, from, to *net.TCPConn, much int64) (sent <-chan error) {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(struct{ io.Writer }{from}, random())
		ended <- err
	}()
	_, err := io.CopyN(io.Discard, to, much)
	nstest.Must(t, err)
	return ended
}

func wantSenderReset(t *testing.T, sent <-chan error) {
	t.Helper()
	if err := <-sent; !isReset(err) {
		t.Errorf("sending ended with %v, want a reset", err)
	}
}

// halfClose ends one direction, and waits until the other end has read that.
func halfClose(t *testing.T, from, to *net.TCPConn) {
	t.Helper()
	nstest.Must(t, from.CloseWrite())
	if n, err := to.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("read %d bytes, %v; want the end", n, err)
	}
}
