package upstream_test

import (
	"testing"

	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/upstream"
)

// TestPool: links are there before anybody takes one, and each that is taken is
// replaced.
func TestPool(t *testing.T) {
	server := serve(t, "127.0.0.1:0")
	ls := newServers(t, upstream.Config{Servers: []string{server.addr()}, PoolMin: 4, PoolMax: 10, Answers: true})
	nstest.WaitFor(t, "pool", func() bool { return server.count() == 4 })
	for i := range 20 {
		l, ok := take(t, ls, new(upstream.Tried))
		if !ok || !l.Ready() {
			t.Fatalf("link %d was not opened ahead", i)
		}
		nstest.WaitFor(t, "replacement", func() bool { return server.count() >= 4+i+1 })
	}
}

// TestAskedLink: the link over which the server was asked is the first to be used.
func TestAskedLink(t *testing.T) {
	server := serve(t, "127.0.0.1:0")
	ls := newServers(t, upstream.Config{Servers: []string{server.addr()}, PoolMin: 2, PoolMax: 10, Answers: true})
	nstest.WaitFor(t, "pool", func() bool { return server.count() == 2 })
	for i, want := range []uint64{1, 0} {
		if l, ok := take(t, ls, new(upstream.Tried)); !ok || !l.Ready() || l.Carried() != want {
			t.Errorf("link %d has carried %d headers, ready %v", i, l.Carried(), l.Ready())
		}
	}
}

// TestNoPool: without one nothing is opened before there is a peer.
func TestNoPool(t *testing.T) {
	server := serve(t, "127.0.0.1:0")
	ls := newServers(t, upstream.Config{Servers: []string{server.addr()}})
	for i := range 3 {
		if l, ok := take(t, ls, new(upstream.Tried)); !ok || l.Ready() {
			t.Errorf("link %d: %v, opened ahead: %v", i, ok, l.Ready())
		}
		nstest.WaitFor(t, "link", func() bool { return server.count() == i+1 })
	}
}

// TestPoolOfTheDead: what the server has closed is given to nobody.
func TestPoolOfTheDead(t *testing.T) {
	server := serve(t, "127.0.0.1:0")
	ls := newServers(t, upstream.Config{Servers: []string{server.addr()}, PoolMin: 8, PoolMax: 8, Answers: true})
	nstest.WaitFor(t, "pool", func() bool { return server.count() == 8 })
	server.hangUp()
	for range 20 {
		l, ok := take(t, ls, new(upstream.Tried))
		if !ok {
			t.Fatal("the server is left out")
		}
		nstest.Must(t, socket.Wait(t.Context(), l.FD()))
		if s := socket.Look(l.FD()); !s.Connected {
			t.Fatalf("a link that is no more: %+v", s)
		}
	}
	// And without any peer the pool is full again.
	server.hangUp()
	nstest.WaitFor(t, "pool", func() bool { return server.count() >= 8 })
}
