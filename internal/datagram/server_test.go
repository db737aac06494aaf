package datagram_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/datagram"
	"portredirector/internal/limit"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/track"
	"portredirector/internal/wire"
)

// The peers of a server, which are addresses of loopback, so that their replies need no route.
var (
	claim = netip.MustParseAddrPort("127.0.0.77:4444")
	other = netip.MustParseAddrPort("127.0.0.78:4444")
	entry = netip.MustParseAddrPort("192.0.2.1:53")
)

var errNo = errors.New("no")

// gate leads flows to a service, except those of port 1.
type gate struct {
	to    netip.AddrPort
	later bool
	stuck bool // lookups last until they are canceled

	canceled atomic.Int64

	mu      sync.Mutex
	refused []error
}

func (g *gate) Allow(netip.AddrPort) error { return nil }

func (g *gate) Authorize(h wire.Header, _ datagram.Remote) error {
	if h.Destination.Port() == 1 {
		return errNo
	}
	return nil
}

func (g *gate) Admit(h wire.Header, from datagram.Remote) (datagram.Target, error) {
	if err := g.Authorize(h, from); err != nil {
		return datagram.Target{}, err
	}
	if g.later {
		return datagram.Target{}, datagram.ErrLater
	}
	return datagram.Target{Name: "service", To: g.to}, nil
}

func (g *gate) Resolve(ctx context.Context, _ wire.Header) (datagram.Target, error) {
	if g.stuck {
		<-ctx.Done()
		g.canceled.Add(1)
		return datagram.Target{}, ctx.Err()
	}
	return datagram.Target{Name: "service", To: g.to}, nil
}

func (g *gate) Refused(_ wire.Header, _ datagram.Remote, err error) (datagram.Refusal, track.Who) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refused = append(g.refused, err)
	return datagram.Refusal{Status: wire.Refused}, track.Service
}

// count returns the number of refusals.
func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.refused)
}

func (g *gate) Name(datagram.Remote) string { return "" }

// serverRig is a server between a client and a service that the test plays.
type serverRig struct {
	*datagram.Server

	gate    gate
	track   track.Table
	at      netip.AddrPort // for links
	service *net.UDPConn
}

func newServerRig(t *testing.T, set func(*serverRig)) *serverRig {
	t.Helper()
	if err := socket.CheckTransparent(); err != nil {
		t.Skip(err)
	}
	r := &serverRig{service: udp(t, "127.0.0.1:0")}
	r.gate.to = r.service.LocalAddr().(*net.UDPAddr).AddrPort()
	if set != nil {
		set(r)
	}
	var err error
	r.Server, err = datagram.NewServer(datagram.ServerConfig{
		Options: datagram.Options{
			Loops: 2, Timeout: time.Minute, MostUnanswered: 100, Track: &r.track, Log: slog.New(slog.DiscardHandler),
			Peers: &limit.Peers[netip.Prefix]{},
		},
		Gate: &r.gate, Dialer: socket.NewTransparentDialer(),
	})
	nstest.Must(t, err)
	t.Cleanup(func() { r.Shutdown(t.Context()) })
	c := udp(t, "127.0.0.1:0")
	r.at = c.LocalAddr().(*net.UDPAddr).AddrPort()
	nstest.Must(t, r.Listen(c))
	return r
}

// link returns a socket of a client.
func (r *serverRig) link(t *testing.T) *net.UDPConn {
	t.Helper()
	return connected(t, r.at)
}

// bring sends a datagram of a peer over a link.
func bring(t *testing.T, link *net.UDPConn, peer netip.AddrPort, port uint16, payload string) {
	t.Helper()
	b, err := wire.Header{Source: peer, Destination: netip.AddrPortFrom(entry.Addr(), port), ID: wire.NewID()}.AppendDatagram(nil, wire.Native)
	nstest.Must(t, err)
	say(t, link, string(b)+payload)
}

// seen wants the service to get a datagram from a peer.
func (r *serverRig) seen(t *testing.T, peer netip.AddrPort, payload string) {
	t.Helper()
	b := make([]byte, 1<<16)
	n, from, err := r.service.ReadFromUDPAddrPort(b)
	if err != nil || string(b[:n]) != payload || from != peer {
		t.Fatalf("the service got %.40q from %v, %v, want %.40q from %v", b[:n], from, err, payload, peer)
	}
}

// reply sends an answer of the service, and wants a link to bring it.
func (r *serverRig) reply(t *testing.T, peer netip.AddrPort, link *net.UDPConn, payload string) {
	t.Helper()
	answer(t, r.service, peer, link, payload)
}

// describe reads the records of the flows until the test ends, as the API does.
func (r *serverRig) describe(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var reader sync.WaitGroup
	reader.Go(func() {
		for ctx.Err() == nil {
			for range r.track.Live() {
				runtime.Gosched()
			}
			time.Sleep(time.Millisecond)
		}
	})
	t.Cleanup(func() { stop(); reader.Wait() })
}

// TestClaims brings peers: the service sees their addresses, and answers take the link of the flow's last header.
func TestClaims(t *testing.T) {
	t.Parallel()
	for _, later := range []bool{false, true} {
		r := newServerRig(t, func(r *serverRig) { r.gate.later = later })
		r.describe(t)
		one, two := r.link(t), r.link(t)
		bring(t, one, claim, 53, "a")
		r.seen(t, claim, "a")
		bring(t, two, other, 53, "b")
		r.seen(t, other, "b")
		r.reply(t, claim, one, "for a")
		r.reply(t, other, two, "for b")
		bring(t, two, claim, 53, "moved")
		r.seen(t, claim, "moved")
		r.reply(t, claim, two, "moved, too")
		if n := r.Len(); n != 2 || r.gate.count() > 0 {
			t.Errorf("%d flows, %d refused", n, r.gate.count())
		}
	}
}

// TestTaken brings a peer by a client's link while another client has its flow: the flow stays where it is, unless
// the link is that client's own, or is lost.
func TestTaken(t *testing.T) {
	t.Parallel()
	r := newServerRig(t, nil)
	h := wire.Header{Source: claim, Destination: entry}
	links := make([]*downlink, 4)
	for i, name := range []string{"a", "a", "b", ""} {
		links[i] = newDownlink()
		links[i].identity.Name = name
	}
	bring := func(link int, payload string) { r.Request(links[link], 1, &h, []byte(payload)) }
	for link := range 2 {
		bring(link, "mine")
		r.seen(t, claim, "mine")
		bring(2, "another client's")
		links[2].want(t, links[2].ends, wire.Refused.String()) // what the gate says
		bring(3, "without a key")
		links[3].want(t, links[3].ends, wire.Refused.String())
		_, err := r.service.WriteToUDPAddrPort([]byte("answer"), claim)
		nstest.Must(t, err)
		links[link].want(t, links[link].answers, "answer")
	}
	r.Lost(links[1])
	bring(2, "is free")
	r.seen(t, claim, "is free")
	if !errors.Is(r.gate.refused[0], datagram.ErrTaken) {
		t.Errorf("refused because %v", r.gate.refused[0])
	}
}

// TestLookups begins flows whose services are not found: only some are looked up at a time, and no longer than their
// flows live.
func TestLookups(t *testing.T) {
	t.Parallel()
	const most = 64
	r := newServerRig(t, func(r *serverRig) { r.gate.later, r.gate.stuck = true, true })
	link := newDownlink()
	begin := func(id datagram.FlowID) {
		h := wire.Header{Source: netip.AddrPortFrom(claim.Addr(), 1000+uint16(id)), Destination: entry}
		r.Request(link, id, &h, []byte("a"))
	}
	for id := range datagram.FlowID(most) {
		begin(id)
	}
	begin(most)
	link.want(t, link.ends, wire.Busy.String())
	if n := r.Len(); n != most {
		t.Errorf("%d flows, want %d", n, most)
	}
	r.Forgotten(link, 7)
	nstest.WaitFor(t, "a lookup to be canceled", func() bool { return r.gate.canceled.Load() == 1 })
	nstest.WaitFor(t, "room for a lookup", func() bool {
		begin(most)
		return r.Len() == most
	})
}

// TestRefusedDatagrams sends what is no datagram of a client, and one of a peer that may not come in: no flow begins.
func TestRefusedDatagrams(t *testing.T) {
	t.Parallel()
	r := newServerRig(t, nil)
	link := r.link(t)
	say(t, link, "no header")
	bring(t, link, claim, 1, "not allowed")
	nstest.WaitFor(t, "refusals", func() bool { return r.gate.count() == 2 })
	bring(t, link, claim, 53, "allowed")
	r.seen(t, claim, "allowed")
	if n := r.Len(); n != 1 {
		t.Errorf("%d flows", n)
	}
}

// TestNoService sends to a port where nobody listens: the flow ends, and another begins when the service is back.
func TestNoService(t *testing.T) {
	t.Parallel()
	r := newServerRig(t, nil)
	at := r.service.LocalAddr().String()
	nstest.Must(t, r.service.Close())
	link := r.link(t)
	bring(t, link, claim, 53, "a")
	nstest.WaitFor(t, "the end", func() bool { return len(r.track.Ended()) == 1 })
	if e := r.track.Ended()[0]; e.Code.String() != "VC" || e.Peer != claim || e.Source != claim {
		t.Errorf("the record is %+v", e)
	}
	r.service = udp(t, at)
	bring(t, link, claim, 53, "b")
	r.seen(t, claim, "b")
}

// downlink is a link that the test plays.
type downlink struct {
	answers, ends chan string
	identity      auth.Identity
}

func newDownlink() *downlink {
	return &downlink{answers: make(chan string, 10), ends: make(chan string, 100)}
}

func (d *downlink) Answer(_ datagram.FlowID, payload []byte)    { d.answers <- string(payload) }
func (d *downlink) Flush()                                      {}
func (d *downlink) End(_ datagram.FlowID, why datagram.Refusal) { d.ends <- why.Error() }

func (d *downlink) Remote() datagram.Remote {
	return datagram.Remote{Addr: entry, Identity: d.identity}
}

func (d *downlink) want(t *testing.T, c chan string, s string) {
	t.Helper()
	select {
	case got := <-c:
		if got != s {
			t.Errorf("got %q, want %q", got, s)
		}
	case <-time.After(patience):
		t.Errorf("nothing came, want %q", s)
	}
}

// TestLinks brings a flow over links with ids: with the header first, then without. It moves to another link, and is forgotten.
func TestLinks(t *testing.T) {
	t.Parallel()
	r := newServerRig(t, nil)
	r.describe(t)
	one, two := newDownlink(), newDownlink()
	h := wire.Header{Source: claim, Destination: entry}
	r.Request(one, 7, nil, []byte("too early"))
	one.want(t, one.ends, datagram.UnknownFlow.String())
	r.Request(one, 7, &h, []byte("a"))
	r.seen(t, claim, "a")
	r.Request(one, 7, nil, []byte("b"))
	r.seen(t, claim, "b")
	_, err := r.service.WriteToUDPAddrPort([]byte("hello"), claim)
	nstest.Must(t, err)
	one.want(t, one.answers, "hello")
	r.Request(two, 9, &h, []byte("c"))
	r.seen(t, claim, "c")
	r.Lost(one)
	_, err = r.service.WriteToUDPAddrPort([]byte("again"), claim)
	nstest.Must(t, err)
	two.want(t, two.answers, "again")
	r.Request(one, 7, nil, []byte("moved away"))
	one.want(t, one.ends, datagram.UnknownFlow.String())
	r.Forgotten(two, 9)
	if n := r.Len(); n != 0 {
		t.Errorf("%d flows", n)
	}
	if e := r.track.Ended(); len(e) != 1 || e[0].Other != entry.String() {
		t.Errorf("the records of flows that ended: %+v, want one that tells the link", e)
	}
	refused := wire.Header{Source: claim, Destination: netip.AddrPortFrom(entry.Addr(), 1)}
	r.Request(two, 10, &refused, []byte("d"))
	two.want(t, two.ends, wire.Refused.String())
}

// TestHealthCheck wants an answer to a header that claims nobody and asks for one, and none to others.
func TestHealthCheck(t *testing.T) {
	t.Parallel()
	r := newServerRig(t, nil)
	link := r.link(t)
	check := wire.Header{Local: true, ID: wire.NewID()}
	for _, form := range []wire.Form{wire.V2, wire.Native} {
		b, err := check.Append(nil, form)
		nstest.Must(t, err)
		say(t, link, string(b))
	}
	bring(t, link, netip.MustParseAddrPort("127.0.0.9:4444"), 53, "hi")
	r.seen(t, netip.MustParseAddrPort("127.0.0.9:4444"), "hi")
	_, err := r.service.WriteToUDPAddrPort([]byte("last"), netip.MustParseAddrPort("127.0.0.9:4444"))
	nstest.Must(t, err)
	for _, want := range []string{string(wire.AppendFrame(nil, wire.KindStatus, byte(wire.Connected))), "last"} {
		b := make([]byte, 100)
		if n, err := link.Read(b); err != nil || string(b[:n]) != want {
			t.Errorf("got %q, %v, want %q", b[:n], err, want)
		}
	}
}
