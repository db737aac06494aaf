package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/upstream"
)

// home is an attached server that opens links when the test says so.
type home struct {
	*upstream.ReverseServer

	at netip.AddrPort
	to *fake // where the other ends of its links are

	mu      sync.Mutex
	ordered int // guarded by mu
}

// attach attaches a server.
func attach(t *testing.T, ls *upstream.Servers, name string) *home {
	t.Helper()
	h := &home{to: serve(t, "127.0.0.1:0")}
	h.at = netip.MustParseAddrPort(h.to.addr())
	h.ReverseServer = ls.Attach(name, h.at, func(n int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.ordered += n
	})
	return h
}

// orders returns the number of links that it was asked for.
func (h *home) orders() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ordered
}

// open opens a link and returns its descriptor.
func (h *home) open(t *testing.T) int {
	t.Helper()
	c, err := net.Dial("tcp", h.to.addr())
	nstest.Must(t, err)
	fd, err := socket.Detach(c.(*net.TCPConn))
	nstest.Must(t, err)
	h.Put(&auth.Session{FD: fd})
	return fd
}

// newReverse makes servers that others may attach themselves to. Their pool has so many.
func newReverse(t *testing.T, pool int) *upstream.Servers {
	t.Helper()
	return newServers(t, upstream.Config{Reverse: true, PoolMin: pool, PoolMax: 8 * pool, Heartbeat: 25 * time.Second})
}

// queued lets n peers come that find no link and wait for one.
func queued(t *testing.T, ls *upstream.Servers, n int) (got []chan int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	var waiting sync.WaitGroup
	t.Cleanup(waiting.Wait)
	t.Cleanup(cancel)
	for range n {
		tried, ch := new(upstream.Tried), make(chan int, 1)
		if _, ok, err := ls.Take(tried); ok || err != nil {
			t.Fatalf("a link was there: %v", err)
		}
		got = append(got, ch)
		waiting.Go(func() {
			if l, err := ls.Wait(ctx, tried); err == nil {
				ch <- l.FD()
				socket.Close(l.FD())
				l.Leave()
			}
		})
	}
	return got
}

// wantNone lets a peer come, find no link, and go.
func wantNone(t *testing.T, ls *upstream.Servers) {
	t.Helper()
	tried := new(upstream.Tried)
	if _, ok := take(t, ls, tried); ok {
		t.Error("a link was there")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if l, err := ls.Wait(ctx, tried); err == nil {
		t.Error("it waited for nothing, and got a link")
		socket.Close(l.FD())
	}
}

func wantFD(t *testing.T, from chan int, want int) {
	t.Helper()
	select {
	case fd := <-from:
		if fd != want {
			t.Errorf("the peer got link %d, want %d", fd, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the peer got no link")
	}
}

// TestInTheOrderOfArrival: peers that came before there was any server, and those that came after them, get links in the order in
// which they came; the pool gets the rest.
func TestInTheOrderOfArrival(t *testing.T) {
	ls := newReverse(t, 2)
	peers := queued(t, ls, 20)
	h := attach(t, ls, "home")
	if h.orders() != 22 {
		t.Errorf("%d links were ordered, want one for each peer and 2 for the pool", h.orders())
	}
	peers = append(peers, queued(t, ls, 5)...)
	for _, p := range peers {
		wantFD(t, p, h.open(t))
	}
	ahead := h.open(t)
	if l, ok := take(t, ls, new(upstream.Tried)); !ok || l.FD() != ahead || !l.Ready() {
		t.Errorf("the next peer found no link ahead")
	}
}

// TestOrdersFollowTheQueue: what is ordered is what is lacking, also if peers give up.
func TestOrdersFollowTheQueue(t *testing.T) {
	ls := newReverse(t, 1)
	h := attach(t, ls, "home")
	nstest.WaitFor(t, "the first order", func() bool { return h.orders() == 1 })
	wantNone(t, ls)
	peer := queued(t, ls, 1)[0]
	wantFD(t, peer, h.open(t)) // the one who left is not before it
}

// TestAttachedServerGoes: a server that goes is left out at once. Its links are closed, those who wait get one of another, and its
// own name can be taken by a new one.
func TestAttachedServerGoes(t *testing.T) {
	ls := newReverse(t, 1)
	first := attach(t, ls, "first")
	first.open(t)
	first.Detach(errors.New("test"))
	wantNone(t, ls)
	peer := queued(t, ls, 1)[0]
	second := attach(t, ls, "second")
	if second.orders() == 0 {
		t.Error("nothing was ordered of the second server")
	}
	first.open(t) // late: nobody gets it
	wantFD(t, peer, second.open(t))

	again := attach(t, ls, "second")
	second.open(t)
	second.Detach(errors.New("late"))
	fd := again.open(t)
	if l, ok := take(t, ls, new(upstream.Tried)); !ok || l.FD() != fd {
		t.Error("the one that took the place of another has no peers")
	}
}

// TestTriedIsNotOffered: a peer whom a server could not serve gets a link of another, and none if there is none.
func TestTriedIsNotOffered(t *testing.T) {
	ls := newReverse(t, 1)
	first := attach(t, ls, "first")
	first.open(t)
	tried := new(upstream.Tried)
	l, ok := take(t, ls, tried)
	if !ok {
		t.Fatal("no link")
	}
	tried.Add(l)
	if _, ok, err := ls.Open(context.Background(), tried); ok || err != nil {
		t.Errorf("the same server was offered again: %v %v", ok, err)
	}
	second := attach(t, ls, "second")
	got := make(chan int, 1)
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if l, ok, err := ls.Open(context.Background(), tried); ok && err == nil {
			got <- l.FD()
			socket.Close(l.FD())
		}
	})
	defer waiting.Wait()
	first.open(t)
	wantFD(t, got, second.open(t))
}

// TestTriedWithoutPool: a link for such a peer is asked of the server that has not been tried, although others come first, and
// although there is one of these to spare.
func TestTriedWithoutPool(t *testing.T) {
	ls := newReverse(t, 0)
	first, second := attach(t, ls, "first"), attach(t, ls, "second")
	peer := queued(t, ls, 1)[0]
	wantFD(t, peer, first.open(t))
	tried := new(upstream.Tried)
	if _, ok := take(t, ls, tried); ok {
		t.Fatal("a link was there")
	}
	first.open(t)
	tried.Add(wait(t, ls, tried))
	got := make(chan int, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer cancel()
	waiting.Go(func() {
		if l, ok, err := ls.Open(ctx, tried); ok && err == nil {
			got <- l.FD()
			socket.Close(l.FD())
		}
	})
	nstest.WaitFor(t, "order of the second", func() bool { return second.orders() == 1 })
	others := queued(t, ls, 3)
	if n := first.orders(); n != 5 {
		t.Errorf("%d links were asked of the first, want one for each other peer", n)
	}
	wantFD(t, got, second.open(t))
	for _, p := range others {
		wantFD(t, p, first.open(t))
	}
}

// TestDialedFailsAttachedServes: a peer that waits for a server to be dialed gets the link that one has opened ahead which
// has dialed itself, as soon as the other fails.
func TestDialedFailsAttachedServes(t *testing.T) {
	dialed := serveAuth(t)
	cfg := dialed.config(t, false)
	cfg.Reverse, cfg.PoolMin, cfg.PoolMax, cfg.Heartbeat = true, 1, 4, time.Second
	ls := newServers(t, cfg)
	h := attach(t, ls, "home")
	ahead := h.open(t)
	nstest.WaitFor(t, "pool", func() bool { return dialed.count() == 1 })
	dialed.use(t, auth.NewKey())
	dialed.hangUp()
	tried := new(upstream.Tried)
	l, ok := take(t, ls, tried)
	if !ok {
		l = wait(t, ls, tried)
	}
	if l.FD() != ahead {
		t.Errorf("the peer got link %d to %s, want %d", l.FD(), l.Server(), ahead)
	}
}

// TestNoLinkInTime: it is said which server has opened none.
func TestNoLinkInTime(t *testing.T) {
	ls := newReverse(t, 1)
	attach(t, ls, "home")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := ls.Wait(ctx, new(upstream.Tried)); err == nil || err.Error() != "server home: it opens no link" {
		t.Errorf("it says %v", err)
	}
}

// TestAttachedServerDrains: a server whose links end with that answer is left out, and not for good: it says so too
// when it has more of them than it takes.
func TestAttachedServerDrains(t *testing.T) {
	ls := newReverse(t, 1)
	first, second := attach(t, ls, "first"), attach(t, ls, "second")
	first.open(t)
	second.open(t)
	l, ok := take(t, ls, new(upstream.Tried))
	if !ok || l.Server() != "first" {
		t.Fatal("no link of the first")
	}
	l.Fail(upstream.ErrDraining)
	l.Leave()
	if l, ok = take(t, ls, new(upstream.Tried)); !ok || l.Server() != "second" {
		t.Error("the next peer got no link of the second")
	}
	first.open(t)
	now, cancel := context.WithCancel(t.Context())
	cancel()
	nstest.WaitFor(t, "link of the first again", func() bool {
		l, ok, _ := ls.Open(now, new(upstream.Tried))
		if ok {
			socket.Close(l.FD())
		}
		return ok && l.Server() == "first"
	})
}

// TestStaleOrders: orders to which nothing comes are forgotten, and made anew.
func TestStaleOrders(t *testing.T) {
	ls := newReverse(t, 1)
	h := attach(t, ls, "home")
	nstest.WaitFor(t, "an order", func() bool { return h.orders() == 1 })
	nstest.WaitFor(t, "another", func() bool { return h.orders() >= 2 })
}

// TestAttachedServersChurn: servers come, go, drain and do not open all that they are asked for, while peers come and give up. Nobody
// gets a link twice, everybody is served in the end, and no descriptor is left.
func TestAttachedServersChurn(t *testing.T) {
	before := nstest.Descriptors(t, os.Getpid())
	t.Run("life", func(t *testing.T) {
		ls := newReverse(t, 2)
		sink := serve(t, "127.0.0.1:0")
		at := netip.MustParseAddrPort(sink.addr())
		stop := make(chan struct{})
		var servers, peers sync.WaitGroup
		for i := range 3 {
			servers.Go(func() {
				for {
					orders := make(chan int, 10000)
					j := ls.Attach(fmt.Sprint("home", i), at, func(n int) { orders <- n })
					end := time.After(time.Duration(20+rand.IntN(100)) * time.Millisecond)
					for left := 0; ; {
						select {
						case n := <-orders:
							left += n
						case <-end:
							left = -1
						}
						for ; left > 0; left-- {
							if rand.IntN(20) == 0 {
								continue // it could not
							}
							if c, err := net.Dial("tcp", sink.addr()); err == nil {
								if fd, err := socket.Detach(c.(*net.TCPConn)); err == nil {
									j.Put(&auth.Session{FD: fd})
								}
							}
						}
						if left < 0 {
							break
						}
					}
					j.Detach(errors.New("test"))
					select {
					case <-stop:
						return
					default:
					}
				}
			})
		}
		var mu sync.Mutex
		held := make(map[int]bool)
		for range 50 {
			peers.Go(func() {
				for range 20 {
					var tried upstream.Tried
					patience := 20 * time.Second
					hasty := rand.IntN(4) == 0
					if hasty {
						patience = time.Duration(rand.IntN(3)) * time.Millisecond
					}
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					l, ok, err := ls.Take(&tried)
					if !ok && err == nil {
						l, err = ls.Wait(ctx, &tried)
					}
					cancel()
					if err != nil {
						if !hasty {
							t.Errorf("a peer was not served: %v", err)
						}
						continue
					}
					mu.Lock()
					if held[l.FD()] {
						t.Error("two peers have one link")
					}
					held[l.FD()] = true
					mu.Unlock()
					if rand.IntN(10) == 0 {
						l.Fail(upstream.ErrDraining)
					}
					mu.Lock()
					delete(held, l.FD())
					socket.Close(l.FD())
					mu.Unlock()
					l.Leave()
				}
			})
		}
		peers.Wait()
		close(stop)
		servers.Wait()
	})
	nstest.WaitFor(t, fmt.Sprint(before, " descriptors"), func() bool { return nstest.Descriptors(t, os.Getpid()) <= before })
}
