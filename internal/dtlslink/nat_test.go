package dtlslink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"portredirector/internal/auth"
)

// nat is a box between a dialer and a listener.
type nat struct {
	inside  *net.UDPConn
	to      netip.AddrPort
	most    atomic.Int64 // the largest datagram that passes
	lose    atomic.Int64 // one in so many is lost; 0 is none
	largest atomic.Int64 // that came

	mu      sync.Mutex
	outside *net.UDPConn // guarded by mu
	dialer  netip.AddrPort
	tasks   sync.WaitGroup
}

// newNAT starts a box in front of an address.
func newNAT(t testing.TB, to string) *nat {
	t.Helper()
	n := &nat{inside: listen(t, "127.0.0.1:0"), to: netip.MustParseAddrPort(to)}
	n.most.Store(1 << 16)
	n.rebind(t)
	n.tasks.Go(func() {
		b := make([]byte, 1<<16)
		for {
			size, from, err := n.inside.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			n.mu.Lock()
			n.dialer = from
			out := n.outside
			n.mu.Unlock()
			if n.passes(size) {
				_, _ = out.WriteToUDPAddrPort(b[:size], n.to)
			}
		}
	})
	t.Cleanup(func() {
		_ = n.inside.Close()
		n.mu.Lock()
		_ = n.outside.Close()
		n.mu.Unlock()
		n.tasks.Wait()
	})
	return n
}

func (n *nat) String() string { return n.inside.LocalAddr().String() }

// passes reports whether a datagram passes.
func (n *nat) passes(size int) bool {
	n.largest.Store(max(n.largest.Load(), int64(size)))
	lose := n.lose.Load()
	return int64(size) <= n.most.Load() && (lose == 0 || rand.Int64N(lose) != 0)
}

// rebind gives the dialer another port.
func (n *nat) rebind(t testing.TB) {
	t.Helper()
	out := listen(t, "127.0.0.1:0")
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.outside != nil {
		_ = n.outside.Close()
	}
	n.outside = out
	n.tasks.Go(func() {
		b := make([]byte, 1<<16)
		for {
			size, err := out.Read(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			n.mu.Lock()
			to := n.dialer
			n.mu.Unlock()
			if err == nil && n.passes(size) {
				_, _ = n.inside.WriteToUDPAddrPort(b[:size], to)
			}
		}
	})
}

// rig is a dialer and a listener with a box between them.
type rig struct {
	ends
	client, server *recorder
	at             netip.AddrPort
	nat            *nat
	stop           func() // ends the listener
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{ends: newEnds(), client: newRecorder(), server: newRecorder()}
	conn := listen(t, "127.0.0.1:0")
	r.at = conn.LocalAddr().(*net.UDPAddr).AddrPort()
	r.stop = serve(t, r.listener(t, r.server), conn)
	r.nat = newNAT(t, r.at.String())
	return r
}

// echo sends a payload up until it arrives, and then one down.
func (r *rig) echo(t testing.TB, up, down *Link, b string) {
	t.Helper()
	send(t, r.server, up, b)
	send(t, r.client, down, b)
}

// send sends a payload until it arrives.
func send(t testing.TB, to *recorder, l *Link, b string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		must(t, l.Data(1, []byte(b)))
		l.Flush()
		for wait := time.After(50 * time.Millisecond); ; {
			select {
			case e := <-to.events:
				if e.what == "data" && e.b == b {
					return
				}
				continue
			case <-wait:
			}
			break
		}
	}
	t.Fatalf("%.20q does not arrive", b)
}

// TestRebind: a link lives on when a NAT gives the dialing end another port.
func TestRebind(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run(t, forever(r.dialer(t, r.nat.String(), r.client)))
	up, down := r.client.next(t, "opened").link, r.server.next(t, "opened").link
	before := down.Remote()
	r.echo(t, up, down, "before")
	r.nat.rebind(t)
	r.echo(t, up, down, "after")
	if after := down.Remote(); after == before {
		t.Errorf("the server still sends to %v", after)
	}
}

// TestCopied: a record that somebody else sends in the place of the other end moves nothing, and is dropped if it comes
// from an address that may not have a link.
func TestCopied(t *testing.T) {
	t.Parallel()
	r := &rig{ends: newEnds(), client: newRecorder(), server: newRecorder()}
	thief, outcast := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	defer func() { must(t, errors.Join(thief.Close(), outcast.Close())) }()
	conn := listen(t, "127.0.0.1:0")
	l := r.listener(t, r.server)
	l.Allow = func(at netip.AddrPort) error {
		if at == outcast.LocalAddr().(*net.UDPAddr).AddrPort() {
			return errStranger
		}
		return nil
	}
	serve(t, l, conn)
	run(t, forever(r.dialer(t, conn.LocalAddr().String(), r.client)))
	up, down := r.client.next(t, "opened").link, r.server.next(t, "opened").link
	r.echo(t, up, down, "before")
	before := down.Remote()
	for i, from := range []*net.UDPConn{outcast, thief} {
		for _, b := range intercept(t, up, fmt.Sprint(i)) {
			_, err := from.WriteToUDPAddrPort(b, conn.LocalAddr().(*net.UDPAddr).AddrPort())
			must(t, err)
		}
	}
	got := r.server.next(t, "data")
	for got.b == "before" { // once more
		got = r.server.next(t, "data")
	}
	if got.b != "1" {
		t.Errorf("the server got %q of one who may not have a link", got.b)
	}
	b := make([]byte, 1<<16)
	must(t, thief.SetReadDeadline(time.Now().Add(20*time.Second)))
	n, err := thief.Read(b)
	if err != nil || n > 100 {
		t.Errorf("the thief got %d bytes, %v, want a ping", n, err)
	}
	if at := down.Remote(); at != before {
		t.Errorf("the link has moved to %v", at)
	}
	r.echo(t, up, down, "after")
}

// intercept returns the datagrams of a payload, which do not arrive.
func intercept(t testing.TB, l *Link, payload string) [][]byte {
	t.Helper()
	kept := new(shelf)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushLocked()
	conn := l.conn
	l.conn = kept
	must(t, l.appendLocked(appendFlow(l.head[:0], kindData, 1), nil, []byte(payload)))
	l.flushLocked()
	l.conn = conn
	return kept.sent
}

// TestLossy: a link comes about and carries datagrams over a path that loses a fifth.
func TestLossy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.nat.lose.Store(5)
	run(t, forever(r.dialer(t, r.nat.String(), r.client)))
	up := r.client.next(t, "opened").link
	for arrived := false; !arrived; {
		err := up.Data(1, []byte("up"))
		up.Flush()
		select {
		case e := <-r.server.events:
			arrived = e.what == "data" && e.b == "up"
		case <-time.After(20 * time.Millisecond):
		}
		if err != nil { // five pings in a row were lost
			up = r.client.next(t, "opened").link
		}
	}
}

// TestServerReturns: when the listening end retires or dies and another program takes its
// place, the dialer opens a link to that.
func TestServerReturns(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run(t, forever(r.dialer(t, r.at.String(), r.client)))
	up := r.client.next(t, "opened").link
	r.server.next(t, "opened")
	r.stop()
	if e := r.server.next(t, "closed"); e.err != nil {
		t.Errorf("the link of a listener that ends: %v", e.err)
	}
	if e := r.client.next(t, "retired"); e.link != up {
		t.Error("another link has retired")
	}
	again := newRecorder()
	serve(t, r.listener(t, again), listen(t, r.at.String()))
	r.echoAgain(t, again)
}

// TestRetire: when another process takes over the socket, the dialer opens a link to that,
// and the one that retires still sends.
func TestRetire(t *testing.T) {
	t.Parallel()
	r := &rig{ends: newEnds(), client: newRecorder(), server: newRecorder()}
	conn := listen(t, "127.0.0.1:0")
	file, err := conn.File()
	must(t, err)
	defer func() { must(t, file.Close()) }()
	retire, retireNow := context.WithCancel(context.Background())
	defer retireNow()
	l := r.listener(t, r.server)
	run(t, func(ctx context.Context) { _ = l.Serve(ctx, retire, conn) })
	run(t, forever(r.dialer(t, conn.LocalAddr().String(), r.client)))
	up, old := r.client.next(t, "opened").link, r.server.next(t, "opened").link
	retireNow()
	if e := r.client.next(t, "retired"); e.link != up {
		t.Error("another link has retired")
	}
	send(t, r.client, old, "from the old one")
	same, err := net.FilePacketConn(file)
	must(t, err)
	again := newRecorder()
	serve(t, r.listener(t, again), same.(*net.UDPConn))
	send(t, r.client, old, "from the old one beside the new")
	if e := r.server.next(t, "closed"); e.err != nil {
		t.Errorf("the old link ends with %v", e.err)
	}
	r.echoAgain(t, again)
}

// echoAgain waits for new links and uses them.
func (r *rig) echoAgain(t testing.TB, server *recorder) {
	t.Helper()
	up, down := r.client.next(t, "opened").link, server.next(t, "opened").link
	r.server = server
	r.echo(t, up, down, "again")
}

// TestServerForgets: a listening end that has died says nothing. The one in its place does
// not know the link, and the dialer opens another at once.
func TestServerForgets(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	d := r.dialer(t, r.nat.String(), r.client)
	d.times.keepAlive, d.times.busy, d.times.quick = time.Hour, time.Hour, time.Hour
	run(t, forever(d))
	up := r.client.next(t, "opened").link
	r.server.next(t, "opened")
	r.nat.most.Store(0) // bye is lost
	r.stop()
	again := newRecorder()
	serve(t, r.listener(t, again), listen(t, r.at.String()))
	r.nat.most.Store(1 << 16)
	must(t, up.Data(1, []byte("into the void")))
	up.Flush()
	r.echoAgain(t, again)
}

// TestPathLost: a link whose path leads nowhere any more ends at both ends, and the dialer
// opens another when the path is back.
func TestPathLost(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run(t, forever(r.dialer(t, r.nat.String(), r.client)))
	r.client.next(t, "opened")
	r.server.next(t, "opened")
	r.nat.most.Store(0)
	if e := r.client.next(t, "closed"); !errors.Is(e.err, ErrSilent) {
		t.Errorf("the client's link ends with %v", e.err)
	}
	if e := r.server.next(t, "closed"); !errors.Is(e.err, ErrSilent) {
		t.Errorf("the server's link ends with %v", e.err)
	}
	r.nat.most.Store(1 << 16)
	r.echoAgain(t, r.server)
}

// TestPathSize: links find out how large datagrams may be, and notice when that changes.
func TestPathSize(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.nat.most.Store(1300)
	run(t, forever(r.dialer(t, r.nat.String(), r.client)))
	up, down := r.client.next(t, "opened").link, r.server.next(t, "opened").link
	for _, most := range []int{1300, 8000, 1200, 1400} {
		r.nat.most.Store(int64(most))
		for _, l := range []*Link{up, down} {
			waitFor(t, func() bool {
				size := l.Whole() + recordOverhead + flowHead
				if size < most {
					search(l)
				}
				return size <= most && (most-size < 2*closeEnough || size >= plainSize && l == down)
			})
		}
		r.echo(t, up, down, strings.Repeat("x", 1200))
		r.echo(t, up, down, strings.Repeat("x", 1464))
	}
}

// search begins the search for larger datagrams again, if one has ended. It would begin by
// itself later.
func search(l *Link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &l.pulse.path
	if p.probe == 0 && p.high-p.size < closeEnough {
		p.search, p.high = time.Time{}, p.most
		l.wakeUp()
	}
}

func waitFor(t testing.TB, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come about")
		}
	}
}

// TestUntrusted: ends that do not know each other's keys get no link, and both say why.
func TestUntrusted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(known *ends) // of the client, beside those of the listener
		says   string
	}{
		{"the server has another key", func(known *ends) { known.server = auth.NewKey() }, "another key than is known here"},
		{"the server does not know the client", func(known *ends) { known.client = auth.NewKey() }, "does not take this client's key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			known := r.ends
			tt.change(&known)
			d := known.dialer(t, r.at.String(), r.client)
			_, err := d.open(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.says) || !errors.Is(err, auth.ErrKey) || !errors.Is(err, auth.ErrUntrusted) {
				t.Errorf("the client's error is %v", err)
			}
			d.tasks.Wait()
		})
	}
}

// TestRights: a link ends when its other end loses the right to it.
func TestRights(t *testing.T) {
	t.Parallel()
	e, client, server := newEnds(), newRecorder(), newRecorder()
	l := e.listener(t, server)
	var gone atomic.Bool
	l.Judge = func(auth.Identity) error {
		if gone.Load() {
			return errStranger
		}
		return nil
	}
	conn := listen(t, "127.0.0.1:0")
	serve(t, l, conn)
	run(t, forever(e.dialer(t, conn.LocalAddr().String(), client)))
	client.next(t, "opened")
	gone.Store(true)
	if got := server.next(t, "closed"); !errors.Is(got.err, errStranger) {
		t.Errorf("the server's link ends with %v", got.err)
	}
	client.next(t, "retired")
}

// TestReplaced: the dialer replaces a link that is old. What is under way is delivered.
func TestReplaced(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	d := r.dialer(t, r.at.String(), r.client)
	d.times.age = 300 * time.Millisecond
	run(t, forever(d))
	old := r.client.next(t, "opened").link
	r.server.next(t, "opened")
	next := r.client.next(t, "opened").link
	if old == next {
		t.Fatal("the link is the same")
	}
	if err := old.Data(1, nil); err != nil {
		t.Errorf("the old link at once: %v", err)
	}
	if e := r.client.next(t, "closed"); e.link != old || e.err != nil {
		t.Errorf("the link ends with %v", e.err)
	}
}

// TestStrangersCostNothing: datagrams from sources that prove nothing leave nothing behind.
func TestStrangersCostNothing(t *testing.T) {
	t.Parallel()
	e := newEnds()
	l := e.listener(t, newRecorder())
	conn := &shelf{}
	l.conn, l.tokens = conn, newTokenMaker()
	l.byID, l.byAddr = make(map[cid]*association), make(map[netip.AddrPort]*association)
	l.times = quickTimes
	hello := append([]byte{typeHandshake, 0xfe, 0xfd}, make([]byte, 100)...)
	for _, b := range [][]byte{
		{},
		hello, append([]byte{kindHello}, hello...), append([]byte{kindAsk}, make([]byte, askSize)...),
		{kindAsk},
		append([]byte{typeCID}, make([]byte, 100)...),
	} {
		sent := len(conn.sent)
		l.dispatch(context.Background(), datagram{b: b, peer: netip.MustParseAddrPort("192.0.2.1:1")}, time.Now())
		for _, answer := range conn.sent[sent:] {
			if len(answer) > len(b) {
				t.Errorf("%d bytes are answered by %d", len(b), len(answer))
			}
		}
	}
	if len(l.byAddr)+len(l.byID) > 0 {
		t.Errorf("%d associations are kept", len(l.byAddr)+len(l.byID))
	}
	if len(conn.sent) != 3 {
		t.Errorf("%d answers", len(conn.sent))
	}
}

// TestToken: a token is for one address and for a while.
func TestToken(t *testing.T) {
	t.Parallel()
	m, now := newTokenMaker(), time.Now()
	a, b := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.1:2")
	made := m.make(a, now)
	for _, tt := range []struct {
		name string
		mint *tokenMaker
		from netip.AddrPort
		at   time.Time
		want bool
	}{
		{"its own", m, a, now.Add(time.Second), true},
		{"another port", m, b, now, false},
		{"too old", m, a, now.Add((tokenAge + 2) * time.Second), false},
		{"from the future", m, a, now.Add(-5 * time.Second), false},
		{"another program's", newTokenMaker(), a, now, false},
	} {
		if got := tt.mint.valid(made, tt.from, tt.at); got != tt.want {
			t.Errorf("%s: valid is %v", tt.name, got)
		}
	}
}
