package upstream_test

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"portredirector/internal/socket"
	"portredirector/internal/testnet"
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

// TestPoolGrowsAndShrinks: a burst finds more links the next time, up to the bound, and
// after a while there are as few as before.
func TestPoolGrowsAndShrinks(t *testing.T) {
	server := serve(t, "127.0.0.1:0")
	ls := newServers(t, upstream.Config{Servers: []string{server.addr()}, PoolMin: 2, PoolMax: 20, Answers: true})
	nstest.WaitFor(t, "pool", func() bool { return server.count() == 2 })
	open := func() (n int) { // what the server has and no peer, by its own kernel
		server.mu.Lock()
		defer server.mu.Unlock()
		for _, c := range server.conns {
			fd, err := c.SyscallConn()
			nstest.Must(t, err)
			_ = fd.Control(func(fd uintptr) {
				if socket.Look(int(fd)).Connected {
					n++
				}
			})
		}
		return n
	}
	burst := func(n int) {
		for range n {
			l, ok, err := ls.Take(new(upstream.Tried))
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			socket.Close(l.FD())
			l.Leave()
		}
	}
	for range 3 {
		burst(200)
	}
	nstest.WaitFor(t, "larger pool", func() bool { return open() > 4 })
	if n := open(); n > 20 {
		t.Errorf("there are %d", n)
	}
	nstest.WaitFor(t, "smaller pool", func() bool { return open() == 2 })
}

// TestPoolOfADeadPath: a link whose other end no longer answers is given to nobody.
func TestPoolOfADeadPath(t *testing.T) {
	m1, m2 := nstest.NewHost(t, "m1"), nstest.NewHost(t, "m2")
	nstest.Must(t, testnet.Connect(m1, []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}, m2, []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")}))
	server := nstest.Echo(t, m2, netip.MustParseAddrPort("10.0.0.2:80"))
	ls := upstream.New(upstream.Config{ // that do not Run: who takes one opens the next, in this host
		Servers: []string{server.Addr().String()}, PoolMin: 1, PoolMax: 1, ConnectTimeout: time.Minute, Log: slog.New(slog.DiscardHandler),
	})
	next := func() (l upstream.Link) {
		nstest.Must(t, m1.Do(func() (err error) {
			var ok bool
			if l, ok, err = ls.Take(new(upstream.Tried)); !ok {
				t.Error("there is none")
			}
			return err
		}))
		t.Cleanup(func() { socket.Close(l.FD()) })
		return l
	}
	next()
	nstest.WaitFor(t, "link opened ahead", func() bool { return next().Ready() })
	nstest.Must(t, m1.Lose("m2", netip.MustParseAddr("10.0.0.2")))
	nstest.Must(t, m2.Lose("m1", netip.MustParseAddr("10.0.0.1")))
	time.Sleep(9 * time.Second) // for a keepalive to go unanswered
	if next().Ready() {
		t.Error("a link over a dead path")
	}
}
