package link_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/limit"
	"portredirector/internal/link"
	"portredirector/internal/logging"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
)

// home is a server that joins, and opens links when the test says so.
type home struct {
	*link.Joined

	at netip.AddrPort
	to *fake // where the other ends of its links are

	mu      sync.Mutex
	ordered int // guarded by mu
}

// join has a server join.
func join(t *testing.T, ls *link.Links, name string) *home {
	t.Helper()
	h := &home{to: serve(t, "127.0.0.1:0")}
	h.at = netip.MustParseAddrPort(h.to.addr())
	h.Joined = ls.Join(name, h.at, func(n int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.ordered += n
	})
	return h
}

// orders is how many links it was asked for.
func (h *home) orders() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ordered
}

// open opens a link, and returns its descriptor.
func (h *home) open(t *testing.T) int {
	t.Helper()
	c, err := net.Dial("tcp", h.to.addr())
	nstest.Must(t, err)
	fd, err := socket.Detach(c.(*net.TCPConn))
	nstest.Must(t, err)
	h.Put(&auth.Session{FD: fd})
	return fd
}

// newJoinable makes links that servers may join. Their pool has so many.
func newJoinable(t *testing.T, pool int) *link.Links {
	t.Helper()
	return newLinks(t, link.Config{Joined: true, PoolMin: pool, PoolMax: 8 * pool, Heartbeat: 25 * time.Second})
}

// queued has n peers come for whom there is no link, and wait for theirs.
func queued(t *testing.T, ls *link.Links, n int) (got []chan int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	var waiting sync.WaitGroup
	t.Cleanup(waiting.Wait)
	t.Cleanup(cancel)
	for range n {
		tried, ch := new(link.Tried), make(chan int, 1)
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

// wantNone has a peer come, find no link, and go.
func wantNone(t *testing.T, ls *link.Links) {
	t.Helper()
	tried := new(link.Tried)
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
	ls := newJoinable(t, 2)
	peers := queued(t, ls, 20)
	h := join(t, ls, "home")
	if h.orders() != 22 {
		t.Errorf("%d links were ordered, want one for each peer and 2 for the pool", h.orders())
	}
	peers = append(peers, queued(t, ls, 5)...)
	for _, p := range peers {
		wantFD(t, p, h.open(t))
	}
	ahead := h.open(t)
	if l, ok := take(t, ls, new(link.Tried)); !ok || l.FD() != ahead || !l.Ready() {
		t.Errorf("the next peer found no link ahead")
	}
}

// TestOrdersFollowTheQueue: what is ordered is what is lacking, also if peers give up.
func TestOrdersFollowTheQueue(t *testing.T) {
	ls := newJoinable(t, 1)
	h := join(t, ls, "home")
	nstest.WaitFor(t, "the first order", func() bool { return h.orders() == 1 })
	wantNone(t, ls)
	peer := queued(t, ls, 1)[0]
	wantFD(t, peer, h.open(t)) // the one who left is not before it
}

// TestJoinedGoes: a server that goes is left out at once. Its links are closed, those who wait get one of another, and its
// own name can be taken by a new one.
func TestJoinedGoes(t *testing.T) {
	ls := newJoinable(t, 1)
	first := join(t, ls, "first")
	first.open(t)
	first.Leave(errors.New("test"))
	wantNone(t, ls)
	peer := queued(t, ls, 1)[0]
	second := join(t, ls, "second")
	if second.orders() == 0 {
		t.Error("nothing was ordered of the second server")
	}
	first.open(t) // late: nobody gets it
	wantFD(t, peer, second.open(t))

	again := join(t, ls, "second")
	second.open(t)
	second.Leave(errors.New("late"))
	fd := again.open(t)
	if l, ok := take(t, ls, new(link.Tried)); !ok || l.FD() != fd {
		t.Error("the one that took the place of another has no peers")
	}
}

// TestTriedIsNotOffered: a peer whom a server could not serve gets a link of another, and none if there is none.
func TestTriedIsNotOffered(t *testing.T) {
	ls := newJoinable(t, 1)
	first := join(t, ls, "first")
	first.open(t)
	tried := new(link.Tried)
	l, ok := take(t, ls, tried)
	if !ok {
		t.Fatal("no link")
	}
	tried.Add(l)
	if _, ok, err := ls.Open(context.Background(), tried); ok || err != nil {
		t.Errorf("the same server was offered again: %v %v", ok, err)
	}
	second := join(t, ls, "second")
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
	ls := newJoinable(t, 0)
	first, second := join(t, ls, "first"), join(t, ls, "second")
	peer := queued(t, ls, 1)[0]
	wantFD(t, peer, first.open(t))
	first.open(t)
	tried := new(link.Tried)
	l, ok := take(t, ls, tried)
	if !ok {
		t.Fatal("no link")
	}
	tried.Add(l)
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
	if n := first.orders(); n != 4 {
		t.Errorf("%d links were asked of the first, want one for each other peer", n)
	}
	wantFD(t, got, second.open(t))
	for _, p := range others {
		wantFD(t, p, first.open(t))
	}
}

// TestDialledFailsJoinedServes: a peer that waits for a server to be dialled gets the link that one has opened ahead which
// has dialled itself, as soon as the other fails.
func TestDialledFailsJoinedServes(t *testing.T) {
	dialled := serveSurely(t)
	cfg := dialled.config(t, false)
	cfg.Joined, cfg.PoolMin, cfg.PoolMax, cfg.Heartbeat = true, 1, 4, time.Second
	ls := newLinks(t, cfg)
	h := join(t, ls, "home")
	ahead := h.open(t)
	nstest.WaitFor(t, "pool", func() bool { return dialled.count() == 1 })
	dialled.use(t, auth.NewKey())
	dialled.hangUp()
	tried := new(link.Tried)
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
	ls := newJoinable(t, 1)
	join(t, ls, "home")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := ls.Wait(ctx, new(link.Tried)); err == nil || err.Error() != "server home: it opens no link" {
		t.Errorf("it says %v", err)
	}
}

// TestJoinedSaysThatItDrains: a server whose links end with that answer is left out, and not for good: it says so too
// when it has more of them than it takes.
func TestJoinedSaysThatItDrains(t *testing.T) {
	ls := newJoinable(t, 1)
	first, second := join(t, ls, "first"), join(t, ls, "second")
	first.open(t)
	second.open(t)
	l, ok := take(t, ls, new(link.Tried))
	if !ok || l.Server() != "first" {
		t.Fatal("no link of the first")
	}
	l.Fail(link.ErrDraining)
	l.Leave()
	if l, ok = take(t, ls, new(link.Tried)); !ok || l.Server() != "second" {
		t.Error("the next peer got no link of the second")
	}
	first.open(t)
	now, cancel := context.WithCancel(t.Context())
	cancel()
	nstest.WaitFor(t, "link of the first again", func() bool {
		l, ok, _ := ls.Open(now, new(link.Tried))
		if ok {
			socket.Close(l.FD())
		}
		return ok && l.Server() == "first"
	})
}

// TestStaleOrders: orders to which nothing comes are forgotten, and made anew.
func TestStaleOrders(t *testing.T) {
	ls := newJoinable(t, 1)
	h := join(t, ls, "home")
	nstest.WaitFor(t, "an order", func() bool { return h.orders() == 1 })
	nstest.WaitFor(t, "another", func() bool { return h.orders() >= 2 })
}

// both are a listener and callers that know each other.
type both struct {
	*link.Links

	log   *lines
	taken chan *auth.Session
	stop  func() // ends the server
}

// newBoth starts them. The server's key is known if it is to be.
func newBoth(t *testing.T, known bool) both {
	t.Helper()
	clientKey, serverKey := auth.NewKey(), auth.NewKey()
	acceptor, err := auth.AcceptServers(clientKey, true)
	nstest.Must(t, err)
	dialer, err := auth.DialClients(serverKey, func(k auth.PublicKey) bool { return k == clientKey.Public() }, false)
	nstest.Must(t, err)
	b := both{log: new(lines), taken: make(chan *auth.Session, 100)}
	log := slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b.Links = newLinks(t, link.Config{Joined: true, PoolMin: 4, PoolMax: 8, Heartbeat: time.Second, Log: log})
	l := &link.Listener{
		Links: b.Links, Secure: acceptor, Timeout: 5 * time.Second,
		Known:      func(k auth.PublicKey) (string, bool) { return "home", known && k == serverKey.Public() },
		Handshakes: limit.Oldest[netip.Prefix]{Most: 64}, Tell: logging.Throttle[netip.Prefix]{To: log},
	}
	from, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	nstest.Must(t, err)
	c := &link.Callers{
		Clients: []string{from.Addr().String()}, Secure: dialer, ConnectTimeout: 5 * time.Second, Heartbeat: time.Second, Log: log,
		Take: func(s *auth.Session, _ netip.AddrPort) { b.taken <- s },
	}
	var serving, calling sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	cctx, hangUp := context.WithCancel(context.Background())
	serving.Go(func() { _ = l.Serve(ctx, from) })
	calling.Go(func() { c.Run(cctx) })
	b.stop = func() {
		hangUp()
		calling.Wait()
	}
	t.Cleanup(func() {
		b.stop()
		cancel()
		serving.Wait()
		l.Tell.Flush()
		for {
			select {
			case s := <-b.taken:
				socket.Close(s.FD)
			default:
				return
			}
		}
	})
	return b
}

// TestDialledByTheServer: the pool is filled over links that the server has opened, of which both ends are sure; when the
// server ends it is left out, and what was ahead is closed.
func TestDialledByTheServer(t *testing.T) {
	b := newBoth(t, true)
	nstest.WaitFor(t, "the pool", func() bool { return len(b.taken) == 4 })
	l, ok := take(t, b.Links, new(link.Tried))
	if !ok || l.Session() == nil || l.Session().Conn == nil || l.Server() != "home" {
		t.Fatalf("no link that is sure: %v", ok)
	}
	nstest.WaitFor(t, "one more in its place", func() bool { return len(b.taken) >= 5 })
	b.stop()
	nstest.WaitFor(t, "the server to be left out", func() bool { return b.log.count("server has gone") == 1 })
	wantNone(t, b.Links)
}

// TestUnknownServer: one whose key is not known is told so, and gets nothing.
func TestUnknownServer(t *testing.T) {
	b := newBoth(t, false)
	nstest.WaitFor(t, "both ends to say why", func() bool {
		return b.log.count("link refused", "server's key is not known here") > 0 &&
			b.log.count("client cannot be reached", "does not know this end's key") > 0
	})
	if len(b.taken) > 0 || b.log.count("server has dialled") > 0 {
		t.Error("it got links")
	}
}

// TestJoinedLinksComeBack: at the end there is no descriptor left, of links that wait, are given out or come late.
func TestJoinedLinksComeBack(t *testing.T) {
	before := nstest.Descriptors(t, os.Getpid())
	t.Run("life", func(t *testing.T) {
		b := newBoth(t, true)
		nstest.WaitFor(t, "the pool", func() bool { return len(b.taken) >= 4 })
		for range 10 {
			tried := new(link.Tried)
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			l, ok, err := b.Take(tried)
			if !ok && err == nil {
				l, err = b.Wait(ctx, tried)
			}
			cancel()
			nstest.Must(t, err)
			socket.Close(l.FD())
			l.Leave()
		}
		nstest.WaitFor(t, "the pool again", func() bool { return len(b.taken) >= 14 })
	})
	nstest.WaitFor(t, fmt.Sprint(before, " descriptors"), func() bool { return nstest.Descriptors(t, os.Getpid()) <= before })
}

// TestJoinedChurn: servers come, go, drain and do not open all that they are asked for, while peers come and give up. Nobody
// gets a link twice, everybody is served in the end, and no descriptor is left.
func TestJoinedChurn(t *testing.T) {
	before := nstest.Descriptors(t, os.Getpid())
	t.Run("life", func(t *testing.T) {
		ls := newJoinable(t, 2)
		sink := serve(t, "127.0.0.1:0")
		at := netip.MustParseAddrPort(sink.addr())
		stop := make(chan struct{})
		var servers, peers sync.WaitGroup
		for i := range 3 {
			servers.Go(func() {
				for {
					orders := make(chan int, 10000)
					j := ls.Join(fmt.Sprint("home", i), at, func(n int) { orders <- n })
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
					j.Leave(errors.New("test"))
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
					var tried link.Tried
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
						l.Fail(link.ErrDraining)
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
