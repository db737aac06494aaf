package e2e_test

import (
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// TestDeadPath cuts a cable: what is left of each connection, idle, busy or half-closed, is reset.
func TestDeadPath(t *testing.T) {
	for _, tt := range []struct {
		name          string
		cut           func(c chain) error
		peer, service bool // which ends of a connection are left
	}{
		{"link", func(c chain) error { return cut(c.m1, "m2", "10.0.0.2", c.m2, "m1", "10.0.0.1") }, true, true},
		{"peer", func(c chain) error { return cut(c.alice.Host, "m1", "203.0.113.1", c.m1, "alice", "203.0.113.10") }, false, true},
		{"service", func(c chain) error { return cut(c.m2, bridge, "172.30.0.2", c.guest, "m2", "172.30.0.1") }, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newChain(t, guest80, "--dead-after 3s")
			idle, up, down, half := c.connect(t), c.connect(t), c.connect(t), c.connect(t)
			sentUp, sentDown := flow(t, up.peer, up.service), flow(t, down.service, down.peer)
			nstest.Must(t, tt.cut(c))
			if tt.peer {
				nstest.Must(t, half.peer.CloseWrite())
			}
			if tt.service {
				nstest.Must(t, half.service.CloseWrite())
			}
			if tt.peer {
				wantReset(t, idle.peer)
				wantSenderReset(t, sentUp)
				wantTold(t, down.peer)
				wantReset(t, half.peer)
			}
			if tt.service {
				wantReset(t, idle.service)
				wantTold(t, up.service)
				wantSenderReset(t, sentDown)
				wantReset(t, half.service)
			}
		})
	}
}

// cut makes two hosts lose each other. Each is given with the interface that leads to the other, and the other's address.
func cut(a *testnet.Host, aIf, bAddr string, b *testnet.Host, bIf, aAddr string) error {
	return errors.Join(a.Lose(aIf, netip.MustParseAddr(bAddr)), b.Lose(bIf, netip.MustParseAddr(aAddr)))
}

// wantTold reads what is still there, and fails the test unless a reset follows.
func wantTold(t *testing.T, end *net.TCPConn) {
	t.Helper()
	nstest.Must(t, end.SetReadDeadline(time.Now().Add(patience)))
	if _, err := io.Copy(io.Discard, end); !isReset(err) {
		t.Errorf("the connection ended with %v, want a reset", err)
	}
}

// TestStoppedReceiverIsNotDead has a receiver that does not read for longer than the time after which a path is dead.
func TestStoppedReceiverIsNotDead(t *testing.T) {
	t.Parallel()
	c := newChain(t, loopback80, "--dead-after 3s")
	s := c.connect(t)
	sent := make(chan delivery, 1)
	go func() {
		d := send(s.peer, bulk)
		d.err = errors.Join(d.err, s.peer.CloseWrite())
		sent <- d
	}()
	time.Sleep(10 * time.Second)
	h := sha256.New()
	n, err := io.Copy(h, s.service)
	if d := <-sent; errors.Join(err, d.err) != nil || n != bulk || digest(h.Sum(nil)) != d.sum {
		t.Errorf("%d of %d bytes arrived, or others: %v, %v", n, int64(bulk), err, d.err)
	}
}
