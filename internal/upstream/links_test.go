package upstream

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/socket"
	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// poolWorld has a pool of links to a listener, and their other ends.
type poolWorld struct {
	*pool

	t    *testing.T
	l    *net.TCPListener
	at   netip.AddrPort
	ends map[int]net.Conn // by the descriptor of the link
}

func newPoolWorld(t *testing.T, least, most int) *poolWorld {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	nstest.Must(t, err)
	w := &poolWorld{t: t, l: l, at: l.Addr().(*net.TCPAddr).AddrPort(), ends: make(map[int]net.Conn)}
	w.pool = &pool{least: least, most: most, allowed: []netip.AddrPort{w.at}, alive: idleAlive(net.KeepAliveConfig{})}
	t.Cleanup(func() {
		w.close()
		_ = l.Close()
		for _, c := range w.ends {
			_ = c.Close()
		}
	})
	return w
}

// link opens a link that has carried so many headers.
func (w *poolWorld) link(carried uint64) pooled {
	w.t.Helper()
	fd, err := socket.Connect(netip.AddrPort{}, w.at, net.KeepAliveConfig{}, nil)
	nstest.Must(w.t, err)
	c, err := w.l.Accept()
	nstest.Must(w.t, err)
	w.ends[fd] = c
	return pooled{fd: fd, to: w.at, carried: carried}
}

// add puts such a link into the pool and returns its descriptor.
func (w *poolWorld) add(carried uint64) int {
	w.t.Helper()
	l := w.link(carried)
	w.put(l)
	return l.fd
}

// wantTaken takes links and wants these descriptors.
func (w *poolWorld) wantTaken(want ...int) {
	w.t.Helper()
	for i, fd := range want {
		l, ready, _ := w.take()
		if l.fd != fd || ready != (fd >= 0) {
			w.t.Errorf("take %d gives link %d, ready %v; want %d of %v", i, l.fd, ready, fd, want)
		}
		l.close()
	}
}

// wantClosed wants the other end of a link to see an end in order.
func (w *poolWorld) wantClosed(fd int, closed bool) {
	w.t.Helper()
	c := w.ends[fd]
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if closed {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	}
	n, err := c.Read(make([]byte, 1))
	if ended := n == 0 && err.Error() == "EOF"; ended != closed {
		w.t.Errorf("the other end of link %d reads %d, %v; want its end: %v", fd, n, err, closed)
	}
}

// TestLastUsedFirst: the link that was used last is taken first; those that nobody has
// used come after all used ones, the oldest first.
func TestLastUsedFirst(t *testing.T) {
	w := newPoolWorld(t, 0, 8)
	a, b := w.add(0), w.add(0)
	c, d := w.add(3), w.add(1)
	e := w.add(0)
	w.wantTaken(d, c, a, b, e, -1)
}

// TestSteadyState: as long as links come back nothing is opened, and what was opened
// before is one link for each peer at a time, and the fewest idle ones.
func TestSteadyState(t *testing.T) {
	w := newPoolWorld(t, 2, 16)
	opened := 0
	open := func(n int) {
		for range n {
			w.add(0)
			w.settle()
			opened++
		}
	}
	n, _, _ := w.tick()
	open(n)
	for range 50 {
		var under []pooled
		for range 5 {
			l, ready, want := w.take()
			if !ready {
				t.Fatal("a peer found no link")
			}
			under = append(under, l)
			open(want)
		}
		for _, l := range under {
			l.carried++
			w.put(l)
		}
		n, _, _ := w.tick()
		open(n)
	}
	if opened != 5+2 {
		t.Errorf("%d links were opened for 5 peers at a time", opened)
	}
}

// TestSize: the pool grows by one with each peer that finds no link, up to its bound, and
// not if the link of that peer comes back soon. It shrinks slowly, and closes no link then.
func TestSize(t *testing.T) {
	w := newPoolWorld(t, 2, 6)
	for i, want := range []int{2, 2, 1, 1, 0, 0} { // two at a time, until there are as many as there may be
		if _, _, n := w.take(); n != want {
			t.Errorf("peer %d: %d links are wanted, want %d", i, n, want)
		}
	}
	if got := w.targetLocked(); got != 6 {
		t.Errorf("there are to be %d links", got)
	}
	w.unmiss()
	w.unmiss()
	if got := w.targetLocked(); got != 4 {
		t.Errorf("there are to be %d links after two have come back", got)
	}
	for range 6 {
		w.add(0)
		w.settle()
	}
	for range 30 {
		w.tick()
	}
	if got := w.targetLocked(); got != 2 || len(w.links) != 6 {
		t.Errorf("there are to be %d links after half a minute, and are %d", got, len(w.links))
	}
	w.wantTaken(w.links[5].fd)
	if _, _, n := w.take(); n != 0 {
		t.Errorf("%d links are opened although there are more than enough", n)
	}
}

// TestOldLinks: links that nobody has used for long are closed, those that have carried
// nothing first, but never more than the pool would open again.
func TestOldLinks(t *testing.T) {
	w := newPoolWorld(t, 2, 8)
	w.maxAge = time.Minute
	fresh := []int{w.add(0), w.add(0)}
	used := []int{w.add(1), w.add(1), w.add(1)}
	age := func() {
		for i := range w.links {
			w.links[i].since = now() - moment(2*w.maxAge)
		}
	}
	age()
	w.tick()
	for _, fd := range []int{fresh[0], fresh[1], used[0]} {
		w.wantClosed(fd, true)
	}
	young := []int{w.add(1), w.add(1), w.add(1)}
	w.tick() // closes the old ones, which the pool has no need of now, and no others
	w.wantTaken(young[2], young[1], young[0], -1)

	w.maxAge = 0
	old := w.add(1)
	w.links[0].since = now() - moment(time.Hour)
	w.least = 0
	w.size = 0
	w.tick()
	w.wantClosed(old, false)
}

// TestMostLinks: there are never more idle links than allowed; the one that would be
// taken last goes.
func TestMostLinks(t *testing.T) {
	w := newPoolWorld(t, 0, 2)
	a, b, c := w.add(1), w.add(0), w.add(1)
	w.wantClosed(b, true)
	d := w.add(1)
	w.wantClosed(a, true)
	w.wantClosed(w.add(0), true)
	w.wantTaken(d, c, -1)
}

// TestEndedByServer: a link that the server has ended is given to nobody, and does not
// stay.
func TestEndedByServer(t *testing.T) {
	w := newPoolWorld(t, 0, 8)
	a, b, c := w.add(1), w.add(1), w.add(1)
	end := func(fd int) {
		_ = w.ends[fd].Close()
		nstest.WaitFor(t, "end of the link", func() bool { return !socket.Look(fd).Connected })
	}
	end(c)
	w.wantTaken(b)
	end(a)
	w.tick()
	if len(w.links) > 0 {
		t.Errorf("%d links stay", len(w.links))
	}
}

// TestKeepAliveOfIdle: a link that comes back has the keepalive of idle links soon,
// whatever it had in use.
func TestKeepAliveOfIdle(t *testing.T) {
	w := newPoolWorld(t, 0, 8)
	l := w.link(1)
	nstest.Must(t, socket.KeepAlive(l.fd, net.KeepAliveConfig{Enable: true, Idle: time.Hour, Interval: time.Hour, Count: 1}))
	for range 2 {
		w.put(l)
		w.tick()
		if got := keepIdle(t, l.fd); got != idleSilence {
			t.Errorf("it is probed after %s", got)
		}
		l, _, _ = w.take()
		nstest.Must(t, socket.KeepAlive(l.fd, net.KeepAliveConfig{Enable: true, Idle: time.Hour, Interval: time.Hour, Count: 1}))
	}
	l.close()
}

// TestPoolOfADeadPath: a link whose other end no longer answers is given to nobody.
func TestPoolOfADeadPath(t *testing.T) {
	m1, m2 := nstest.NewHost(t, "m1"), nstest.NewHost(t, "m2")
	nstest.Must(t, testnet.Connect(m1, []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}, m2, []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")}))
	server := nstest.Echo(t, m2, netip.MustParseAddrPort("10.0.0.2:80"))
	ss := New(Config{ // that do not Run: who takes one opens the next, in this host
		Servers: []string{server.Addr().String()}, PoolMin: 1, PoolMax: 1, ConnectTimeout: time.Minute, Log: slog.New(slog.DiscardHandler),
	})
	next := func() (l Link) {
		nstest.Must(t, m1.Do(func() (err error) {
			var ok bool
			if l, ok, err = ss.Take(new(Tried)); !ok {
				t.Error("there is none")
			}
			(*ss.all.Load())[0].source.maintain()
			return err
		}))
		t.Cleanup(func() { socket.Close(l.FD()) })
		return l
	}
	next()
	nstest.WaitFor(t, "link opened ahead", func() bool { return next().Ready() })
	nstest.WaitFor(t, "keepalive", func() bool {
		(*ss.all.Load())[0].source.maintain()
		return (*ss.all.Load())[0].pool.links[0].alive
	})
	nstest.Must(t, m1.Lose("m2", netip.MustParseAddr("10.0.0.2")))
	nstest.Must(t, m2.Lose("m1", netip.MustParseAddr("10.0.0.1")))
	time.Sleep(9 * time.Second) // for a keepalive to go unanswered
	if next().Ready() {
		t.Error("a link over a dead path")
	}
}

// TestReturn: a link that comes back is that of the next peer, and is closed in order if
// it is of no more use.
func TestReturn(t *testing.T) {
	w := newPoolWorld(t, 0, 0)
	for name, spoil := range map[string]func(*dialed, *Link){
		"":                func(*dialed, *Link) {},
		"left out":        func(_ *dialed, l *Link) { l.Fail(ErrNoAnswer) },
		"lost":            func(d *dialed, l *Link) { d.lost.Store(l.taken + 1) },
		"pool is closed":  func(d *dialed, _ *Link) { d.pool.close() },
		"pool is off":     func(d *dialed, _ *Link) { d.pool.most = 0 },
		"too old":         func(_ *dialed, l *Link) { l.first = now() - moment(2*oldest) },
		"address is gone": func(d *dialed, _ *Link) { d.pool.allow(nil) },
	} {
		ss := New(Config{Servers: []string{w.at.String()}, PoolMax: 4, ConnectTimeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
		d := ss.groups[0].dialed[0]
		d.pool.put(w.link(7))
		l, ok, err := ss.Take(new(Tried))
		if err != nil || !ok || l.Carried() != 7 {
			t.Fatal(ok, err)
		}
		spoil(d, &l)
		l.Leave()
		l.Return()
		w.wantClosed(l.FD(), name != "")
		if name == "" {
			if again, _, _ := ss.Take(new(Tried)); again.FD() != l.FD() || again.Carried() != 8 || !again.Ready() {
				t.Errorf("the next peer has link %d that has carried %d, ready %v", again.FD(), again.Carried(), again.Ready())
			}
			l.PutBack()
			if again, _, _ := ss.Take(new(Tried)); again.FD() != l.FD() || again.Carried() != 7 {
				t.Errorf("a link that was put back has carried %d", again.Carried())
			}
		}
		d.pool.close()
	}
}

// TestReturnToAQueuedPeer: a link that comes back goes to the first queued peer, although
// another was ordered for it.
func TestReturnToAQueuedPeer(t *testing.T) {
	w := newPoolWorld(t, 0, 0)
	ss := New(Config{Reverse: true, PoolMax: 4, ConnectTimeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
	r := ss.Attach("home", w.at, func(int) {})
	r.pool.put(w.link(1))
	l, _, err := ss.Take(new(Tried))
	nstest.Must(t, err)
	var queued Tried
	if _, ok, _ := ss.Take(&queued); ok {
		t.Fatal("a link was there")
	}
	l.Return()
	if next, err := ss.Wait(context.Background(), &queued); err != nil || next.FD() != l.FD() || next.Carried() != 2 {
		t.Errorf("the queued peer has %d, %v", next.FD(), err)
	}
	l.close()
}

// TestNeeds: of the links that are coming those are needed that the pool or the queued
// peers lack.
func TestNeeds(t *testing.T) {
	p := &pool{least: 1, most: 8}
	p.expect(3)
	if !p.needs(2) || p.needs(1) {
		t.Errorf("3 are coming for a pool of 1: all are needed with 2 queued peers: %v, with 1: %v", p.needs(2), p.needs(1))
	}
}

// TestLinkComesBackMeanwhile: a peer that is queued just when a link comes back gets it.
func TestLinkComesBackMeanwhile(t *testing.T) {
	w := newPoolWorld(t, 0, 0)
	ss := New(Config{Reverse: true, PoolMax: 4, ConnectTimeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
	r := ss.Attach("home", w.at, func(int) {})
	var queued Tried
	if _, ok, _ := ss.Take(&queued); ok {
		t.Fatal("a link was there")
	}
	back := w.link(1)
	r.pool.put(back)
	ss.demand()
	if l, err := ss.Wait(context.Background(), &queued); err != nil || l.FD() != back.fd {
		t.Errorf("the queued peer has %d, %v", l.FD(), err)
	}
	back.close()
}

func keepIdle(t *testing.T, fd int) time.Duration {
	t.Helper()
	s, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
	nstest.Must(t, err)
	return time.Duration(s) * time.Second
}
