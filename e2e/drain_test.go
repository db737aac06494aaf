package e2e_test

import (
	"crypto/sha256"
	"errors"
	"io"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
	"portredirector/internal/wire/wiretest"
)

// TestServerDrains shuts a server down while it has a peer. It must accept no others, finish that one's transfer, end, and only
// then remove the return routes.
func TestServerDrains(t *testing.T) {
	for _, service := range []string{loopback80, guest80} {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			c := newChain(t, service, "--drain-timeout 1m")
			c.warm(t, 100)
			live := c.connect(t)
			finish := transfer(t, live.peer, live.service)
			before := nstest.Snapshot(t, c.m2)
			c.server.Signal(syscall.SIGTERM)
			waitClosed(t, c.m1, addrPort(t, linkTo))

			from := c.wantRefused(t, c.bob, 80)
			c.client.wantRefusal(t, from, linkTo+": connect: connection refused")
			if diff := cmp.Diff(before, nstest.Snapshot(t, c.m2)); diff != "" {
				t.Errorf("the drain changed the return routes (-before +after):\n%s", diff)
			}
			finish()
			transfer(t, live.service, live.peer)()
			c.server.wantEnd(t)
		})
	}
}

// TestDrainDelivers shuts a server down while a slow service still reads what a peer sent before it closed. The acknowledgments of
// these bytes need the return routes.
func TestDrainDelivers(t *testing.T) {
	for _, service := range []string{loopback80, guest80} {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			c := newChain(t, service, "--drain-timeout 1m")
			s := c.connect(t)
			halfClose(t, s.service, s.peer)
			const much = bulk / 4
			sent := make(chan delivery, 1)
			go func() {
				d := send(s.peer, much)
				d.err = errors.Join(d.err, s.peer.Close())
				sent <- d
			}()
			c.server.Signal(syscall.SIGTERM)
			h := sha256.New()
			var received int64
			for {
				n, err := io.CopyN(h, s.service, 64<<10)
				received += n
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("after %d of %d bytes: %v", received, int64(much), err)
				}
				time.Sleep(time.Millisecond)
			}
			if d := <-sent; d.err != nil || received != much || digest(h.Sum(nil)) != d.sum {
				t.Errorf("%d of %d bytes arrived, or others: %v", received, int64(much), d.err)
			}
			c.server.wantEnd(t)
		})
	}
}

// TestClientDrains shuts a client down while it has a peer.
func TestClientDrains(t *testing.T) {
	t.Parallel()
	c := newChain(t, loopback80, "--drain-timeout 1m")
	c.warm(t, 100)
	live := c.connect(t)
	finish := transfer(t, live.peer, live.service)
	c.client.Signal(syscall.SIGINT)
	waitClosed(t, c.bob.Host, c.bob.at(80))

	finish()
	transfer(t, live.service, live.peer)()
	c.client.wantEnd(t)
}

// TestLateHeaders sends headers over links that the server took before its drain began: it refuses them.
func TestLateHeaders(t *testing.T) {
	t.Parallel()
	c := newChain(t, loopback80, "--drain-timeout 1m")
	native, v2 := dial(t, c.m1, addrPort(t, linkTo)), dial(t, c.m1, addrPort(t, linkTo))
	live := c.connect(t) // links are taken in their order, so those above are as well
	c.server.Signal(syscall.SIGTERM)
	waitClosed(t, c.m1, addrPort(t, linkTo))

	l := wiretest.Client(native)
	nstest.Must(t, l.SendHeader(wire.Header{Source: netip.AddrPortFrom(c.bob.addr, 20000), Destination: c.bob.at(80), Answer: true}))
	if answer, err := l.ReadStatus(); err != nil || answer != wire.Draining {
		t.Errorf("the server answers %d (%v), want status %d", answer, err, wire.Draining)
	}
	introduce(t, v2, c.bob, wire.V2)
	wantReset(t, v2)
	nstest.Must(t, l.CloseWrite())
	if got, err := io.ReadAll(native); err != nil || string(got) != string(wire.AppendFrame(nil, wire.KindBye)) {
		t.Errorf("the server ends the link by %q (%v), want bye", got, err)
	}
	nstest.Must(t, native.Close())
	live.talk(t)
	nstest.Must(t, live.peer.Close())
	nstest.Must(t, live.service.Close())
	c.server.wantEnd(t)
}

// TestDrainIsCut has a peer that stays: it is cut when the time is over, or at the second signal.
func TestDrainIsCut(t *testing.T) {
	for _, tt := range []struct {
		name, timeout string
		second        bool
		of            func(c chain) *daemon
	}{
		{"server, time-out", "100ms", false, func(c chain) *daemon { return c.server }},
		{"client, time-out", "100ms", false, func(c chain) *daemon { return c.client }},
		{"server, second signal", "1h", true, func(c chain) *daemon { return c.server }},
		{"client, second signal", "1h", true, func(c chain) *daemon { return c.client }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newChain(t, loopback80, "--drain-timeout "+tt.timeout)
			idle, busy := c.connect(t), c.connect(t)
			sent := flow(t, busy.service, busy.peer)
			d := tt.of(c)
			d.Signal(syscall.SIGTERM)
			if tt.second {
				d.WaitOutput("draining")
				idle.talk(t)
				d.Signal(syscall.SIGTERM)
			}
			wantReset(t, idle.peer)
			wantReset(t, idle.service)
			wantReset(t, busy.peer)
			wantSenderReset(t, sent)
			d.wantEnd(t)
			d.WaitOutput("peers were cut")
		})
	}
}

// TestKilledServer kills a server: the next one serves, and removes what the first left.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	c := newChain(t, loopback80)
	c.connect(t).talk(t)
	c.server.ended = true
	c.server.Signal(syscall.SIGKILL)
	c.server.Wait()
	c.client.wantRefusal(t, c.wantRefused(t, c.alice, 80), "connection refused")

	next := c.world.server(t, "-p 80="+loopback80)
	next.WaitOutput("sweeping what a killed server left")
	c.connect(t).talk(t)
}

// waitClosed waits until nobody takes connections at an address any more.
func waitClosed(t *testing.T, h *testnet.Host, addr netip.AddrPort) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		c, err := h.Dial(t.Context(), netip.AddrPort{}, addr)
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			return
		case isReset(err): // it was closed before the connection was taken
		case err != nil:
			t.Fatal(err)
		default:
			reset(t, c) // and not closed: it may have come to a service that does not know of it yet
		}
	}
	t.Fatalf("something still listens at %v", addr)
}
