package datagram_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"portredirector/internal/ports"

	"portredirector/internal/datagram"
	"portredirector/internal/limit"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/track"
	"portredirector/internal/wire"
)

// rig is a client of one or two servers that the test plays.
type rig struct {
	*datagram.Client

	track   track.Table
	at      netip.AddrPort // for peers
	servers [2]*net.UDPConn
}

const patience = 10 * time.Second

func udp(t *testing.T, at string) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
	nstest.Must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	nstest.Must(t, c.SetReadDeadline(time.Now().Add(patience)))
	return c
}

func newRig(t *testing.T, set func(*datagram.Options)) *rig {
	t.Helper()
	return newRigOf(t, set, func(*datagram.ClientConfig) {})
}

// newRigOf is like newRig for a client whose description change changes.
func newRigOf(t *testing.T, set func(*datagram.Options), change func(*datagram.ClientConfig)) *rig {
	t.Helper()
	r := new(rig)
	for i := range r.servers {
		r.servers[i] = udp(t, "127.0.0.1:0")
	}
	o := datagram.Options{
		Loops: 1, Timeout: time.Minute, MostUnanswered: 8, Track: &r.track, Log: slog.New(slog.DiscardHandler),
		Peers: &limit.Peers[netip.Prefix]{Most: 16},
	}
	if set != nil {
		set(&o)
	}
	cfg := datagram.ClientConfig{
		Options: o, Form: wire.Native,
		Choose: func(_ netip.Prefix, refused datagram.Target) (datagram.Target, bool) {
			for i, s := range r.servers {
				if name := fmt.Sprint("server ", i); name != refused.Name {
					return datagram.Target{Name: name, To: s.LocalAddr().(*net.UDPAddr).AddrPort()}, true
				}
			}
			return datagram.Target{}, false
		},
		Usable: func(datagram.Target) bool { return true },
	}
	change(&cfg)
	var err error
	r.Client, err = datagram.NewClient(cfg)
	nstest.Must(t, err)
	t.Cleanup(func() { r.Shutdown(t.Context()) })
	c := udp(t, "127.0.0.1:0")
	r.at = c.LocalAddr().(*net.UDPAddr).AddrPort()
	nstest.Must(t, r.Listen(c))
	return r
}

// peer returns a socket that is connected to the client.
func (r *rig) peer(t *testing.T) *net.UDPConn {
	t.Helper()
	return connected(t, r.at)
}

// connected returns a socket that is connected to an address.
func connected(t *testing.T, to netip.AddrPort) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	nstest.Must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	nstest.Must(t, c.SetReadDeadline(time.Now().Add(patience)))
	return c
}

// say sends a datagram.
func say(t *testing.T, c io.Writer, payload string) {
	t.Helper()
	_, err := c.Write([]byte(payload))
	nstest.Must(t, err)
}

// serve reads a datagram of a link, and wants its payload. It returns the header and the client's end.
func serve(t *testing.T, s *net.UDPConn, want string) (wire.Header, netip.AddrPort) {
	t.Helper()
	b := make([]byte, 1<<16)
	n, from, err := s.ReadFromUDPAddrPort(b)
	nstest.Must(t, err)
	h, _, payload, err := wire.ReadDatagram(b[:n])
	if err != nil || string(payload) != want {
		t.Fatalf("got %.40q, %v, want %.40q", payload, err, want)
	}
	return h, from
}

// answer sends an answer and wants the peer to get it.
func answer(t *testing.T, s *net.UDPConn, to netip.AddrPort, peer *net.UDPConn, payload string) {
	t.Helper()
	_, err := s.WriteToUDPAddrPort([]byte(payload), to)
	nstest.Must(t, err)
	b := make([]byte, 1<<16)
	if n, err := peer.Read(b); err != nil || string(b[:n]) != payload {
		t.Fatalf("the peer got %q, %v, want %q", b[:n], err, payload)
	}
}

// TestHeader sends datagrams of two peers. Each has a header of its peer, and comes in order from one address.
func TestHeader(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	var before netip.AddrPort
	for range 2 {
		peer := r.peer(t)
		var id wire.ID
		for n := range 40 {
			say(t, peer, fmt.Sprint(n))
		}
		for n := range 40 {
			h, from := serve(t, r.servers[0], fmt.Sprint(n))
			if h.Source != peer.LocalAddr().(*net.UDPAddr).AddrPort() || h.Destination != r.at || h.ID.IsZero() || n > 0 && h.ID != id {
				t.Fatalf("the header is %+v", h)
			}
			if n == 0 && from == before {
				t.Error("two flows have one address")
			}
			id, before = h.ID, from
		}
		answer(t, r.servers[0], before, peer, "hello")
	}
	if n := r.Len(); n != 2 {
		t.Errorf("%d flows", n)
	}
}

// TestServerRefuses closes a server's port: the flow moves to the next.
func TestServerRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	peer := r.peer(t)
	say(t, peer, "a")
	serve(t, r.servers[0], "a")
	nstest.Must(t, r.servers[0].Close())
	nstest.Must(t, r.servers[1].SetReadDeadline(time.Time{}))
	got := make(chan struct{})
	go func() {
		defer close(got)
		_, _, _ = r.servers[1].ReadFromUDPAddrPort(make([]byte, 100))
	}()
	nstest.WaitFor(t, "the other server", func() bool {
		say(t, peer, "b") // the first tells that the port is closed
		select {
		case <-got:
			return true
		default:
			return false
		}
	})
}

// TestFlood begins more flows than there may be: those that were answered stay, whatever comes.
func TestFlood(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	peer := r.peer(t)
	say(t, peer, "a")
	_, to := serve(t, r.servers[0], "a")
	answer(t, r.servers[0], to, peer, "b")
	say(t, peer, "c")
	serve(t, r.servers[0], "c")
	for n := range 100 {
		say(t, r.peer(t), "x")
		serve(t, r.servers[0], "x")
		if got := r.Len(); got > 9 {
			t.Fatalf("after %d datagrams there are %d flows, want 8 unanswered ones at most", n, got)
		}
	}
	answer(t, r.servers[0], to, peer, "d")
	ended := r.track.Totals()
	evicted := uint64(0)
	for _, n := range ended {
		evicted += n.Ends[track.Code{Who: track.Limit, Phase: track.Connect}]
	}
	if evicted != 92 || len(r.track.Ended()) > 0 {
		t.Errorf("%d flows were evicted, want 92, and no record of them", evicted)
	}
}

// TestMost fills all places with flows that were answered: the first new one takes the place of one whose peer has not
// gone on, the next are refused, and counted.
func TestMost(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *datagram.Options) { o.Peers.Most = 2 })
	for _, proven := range []bool{true, false, true} {
		peer := r.peer(t)
		say(t, peer, "a")
		_, to := serve(t, r.servers[0], "a")
		answer(t, r.servers[0], to, peer, "b")
		if proven {
			say(t, peer, "c")
			serve(t, r.servers[0], "c")
		}
	}
	say(t, r.peer(t), "refused")
	nstest.WaitFor(t, "the refusal", func() bool {
		for _, n := range r.track.Totals() {
			if n.Ends[track.Code{Who: track.Limit, Phase: track.Queue}] == 1 {
				return true
			}
		}
		return false
	})
}

// TestRoom has two loops: a new flow of one takes the place of a flow of the other.
func TestRoom(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *datagram.Options) { o.Loops, o.Peers.Most = 2, 1 })
	say(t, r.peer(t), "a")
	serve(t, r.servers[0], "a")
	second := udp(t, "127.0.0.1:0")
	r.at = second.LocalAddr().(*net.UDPAddr).AddrPort()
	nstest.Must(t, r.Listen(second))
	peer := r.peer(t)
	nstest.WaitFor(t, "room", func() bool { // the other loop may be busy
		say(t, peer, "b")
		nstest.Must(t, r.servers[0].SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		_, _, err := r.servers[0].ReadFromUDPAddrPort(make([]byte, 1000))
		return err == nil
	})
}

// TestExpiry ends silent flows: an answered one as served, another as one without an answer.
func TestExpiry(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *datagram.Options) { o.Timeout = time.Millisecond })
	peer := r.peer(t)
	say(t, peer, "a")
	_, to := serve(t, r.servers[0], "a")
	answer(t, r.servers[0], to, peer, "b")
	say(t, r.peer(t), "x")
	serve(t, r.servers[0], "x")
	nstest.WaitFor(t, "the ends", func() bool { return r.Len() == 0 })
	codes := make(map[string]bool)
	for _, e := range r.track.Ended() {
		codes[e.Code.String()] = true
	}
	if !codes["--"] || !codes["VC"] || len(codes) != 2 {
		t.Errorf("the ends are %v, want -- and VC", codes)
	}
}

// TestRetire stops reading. Answers still reach the peers.
func TestRetire(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	peer := r.peer(t)
	say(t, peer, "a")
	_, to := serve(t, r.servers[0], "a")
	r.Retire()
	answer(t, r.servers[0], to, peer, "b")
	say(t, r.peer(t), "for another process")
	answer(t, r.servers[0], to, peer, "c")
	if n := r.Len(); n != 1 {
		t.Errorf("%d flows", n)
	}
}

// TestCut ends a flow for an operator.
func TestCut(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	say(t, r.peer(t), "a")
	serve(t, r.servers[0], "a")
	r.track.Cut(track.Admin, func(track.Owner) bool { return true })
	nstest.WaitFor(t, "the end", func() bool { return r.Len() == 0 })
	if ended := r.track.Ended(); len(ended) != 1 || ended[0].Code.Who != track.Admin {
		t.Errorf("ended: %+v", ended)
	}
}

// TestBan ends a flow of a peer that a server has banned. The client refuses the peer's next datagrams by itself.
func TestBan(t *testing.T) {
	t.Parallel()
	var learned atomic.Int64
	link := newUplink()
	r := newRigOf(t, nil, func(cfg *datagram.ClientConfig) {
		link.use(cfg)
		cfg.Banned = func(netip.Addr) bool { return learned.Load() > 0 }
		cfg.Learn = func(_ netip.Addr, left time.Duration) { learned.Store(int64(left)) }
	})
	peer := r.peer(t)
	say(t, peer, "a")
	r.Ended(link, <-link.sent, datagram.Refusal{Status: wire.Banned, Left: time.Minute})
	if ended := r.track.Ended(); len(ended) != 1 || ended[0].Code.Who != track.Banned || learned.Load() != int64(time.Minute) {
		t.Errorf("%+v, learned %v", ended, learned.Load())
	}
	say(t, peer, "b")
	nstest.WaitFor(t, "the refusal", func() bool {
		return r.track.Totals()[ports.Port{Protocol: ports.UDP, Number: r.at.Port()}].Ends[track.Code{Who: track.Banned, Phase: track.Queue}] == 1
	})
	if len(link.sent) > 0 {
		t.Error("a banned peer's datagram went to the server")
	}
}

// TestIDs begins flows whose ids are the last of all and the first again, and then the same ones: each peer gets
// its answers, and none of another server's link.
func TestIDs(t *testing.T) {
	t.Parallel()
	for _, loops := range []int{1, 2, 3, 7} {
		link, stranger := newUplink(), newUplink()
		r := newRigOf(t, func(o *datagram.Options) { o.Loops, o.MostUnanswered = loops, 100 }, link.use)
		peers := make(map[datagram.FlowID]*net.UDPConn)
		for range 2 {
			r.SetIDs(1<<32 - 3)
			for range 4 {
				peer := r.peer(t)
				say(t, peer, "a")
				id := <-link.sent
				if peers[id] != nil {
					t.Errorf("two flows have id %d", id)
				}
				peers[id] = peer
			}
		}
		for id, peer := range peers {
			r.Answer(stranger, id, []byte("forged"))
			r.Ended(stranger, id, datagram.Refusal{Status: wire.Refused})
			want := fmt.Sprint("for ", id)
			r.Answer(link, id, []byte(want))
			b := make([]byte, 100)
			if n, err := peer.Read(b); err != nil || string(b[:n]) != want {
				t.Errorf("%d loops: a peer got %q, %v, want %q", loops, b[:n], err, want)
			}
		}
		r.Answer(link, 1<<32-1, []byte("for nobody"))
	}
}

// uplink is a link that the test plays.
type uplink struct{ sent chan datagram.FlowID }

func newUplink() *uplink { return &uplink{make(chan datagram.FlowID, 10)} }

// use has a client send all flows over the link.
func (u *uplink) use(cfg *datagram.ClientConfig) {
	cfg.Choose = func(netip.Prefix, datagram.Target) (datagram.Target, bool) {
		return datagram.Target{Name: "server", Link: u}, true
	}
}

func (u *uplink) Send(id datagram.FlowID, _, _ []byte) error {
	u.sent <- id
	return nil
}
func (*uplink) Flush()                 {}
func (*uplink) Forget(datagram.FlowID) {}
