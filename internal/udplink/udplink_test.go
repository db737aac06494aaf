package udplink_test

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/datagram"
	"portredirector/internal/dtlslink"
	"portredirector/internal/limit"
	"portredirector/internal/logging"
	"portredirector/internal/udplink"
	"portredirector/internal/wire"
)

// flows is a client's end that keeps what it is told.
type flows struct {
	changed chan struct{}
	said    chan said
	down    chan datagram.Uplink
}

func (f *flows) Answer(link datagram.Uplink, _ datagram.FlowID, payload []byte) {
	f.said <- said{link, string(payload)}
}

func (f *flows) Ended(link datagram.Uplink, _ datagram.FlowID, why datagram.Refusal) {
	f.said <- said{link, why.Error()}
}
func (f *flows) Down(link datagram.Uplink, _ error) { f.down <- link }
func (f *flows) Changed()                           { f.changed <- struct{}{} }

// said records a message that came down a link.
type said struct {
	link datagram.Uplink
	text string
}

// requests is a server's end that answers each datagram by the peer and the payload.
type requests struct {
	peers     map[datagram.FlowID]netip.AddrPort
	forgotten chan datagram.FlowID
	lost      chan datagram.Downlink
}

func (r *requests) Request(link datagram.Downlink, id datagram.FlowID, h *wire.Header, payload []byte) {
	if h != nil {
		r.peers[id] = h.Source
	}
	if !r.peers[id].IsValid() {
		link.End(id, datagram.Refusal{Status: datagram.UnknownFlow})
		return
	}
	link.Answer(id, append([]byte(r.peers[id].String()+" "), payload...))
	link.Flush()
}

func (r *requests) Forgotten(_ datagram.Downlink, id datagram.FlowID) { r.forgotten <- id }
func (r *requests) Lost(link datagram.Downlink)                       { r.lost <- link }

// TestFlows leads a flow over a link, from its header to its end and that of the link.
func TestFlows(t *testing.T) {
	t.Parallel()
	clientKey, serverKey := auth.NewKey(), auth.NewKey()
	log := slog.New(slog.DiscardHandler)
	below := &requests{make(map[datagram.FlowID]netip.AddrPort), make(chan datagram.FlowID, 1), make(chan datagram.Downlink, 1)}
	server := &udplink.Server{Requests: below, Broken: func(_ datagram.Remote, err error) { t.Error(err) }}
	acceptor, err := auth.AcceptWithKey(serverKey, false)
	must(t, err)
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	must(t, err)
	at := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	listener := &dtlslink.Listener{
		Auth: acceptor, Handler: server, Timeout: 10 * time.Second, KeepAlive: 25 * time.Second, Log: log,
		Handshakes: new(limit.Oldest[netip.Prefix]), Throttle: &logging.Throttle[netip.Prefix]{To: log},
	}

	above := &flows{make(chan struct{}, 10), make(chan said, 10), make(chan datagram.Uplink, 1)}
	client := &udplink.Client{
		Flows: above, Name: func(l *dtlslink.Link) string { return l.Name() },
		Steer: func(_ netip.Prefix, fits func(string) bool) (string, bool) { return "server", fits("server") },
	}
	if _, ok := client.Choose(netip.Prefix{}, datagram.Target{}); ok {
		t.Error("a server is chosen before its link is open")
	}
	dialer, err := auth.DialWithKey(clientKey, []auth.PublicKey{serverKey.Public()}, false)
	must(t, err)
	dials := &dtlslink.Dialer{
		Name: "server", Auth: dialer, Purpose: auth.ToServer, Handler: client, Timeout: 10 * time.Second, KeepAlive: 25 * time.Second, Log: log,
		Addrs: func(context.Context) ([]netip.AddrPort, error) { return []netip.AddrPort{at}, nil },
	}
	ctx, cancel := context.WithCancel(context.Background())
	serverCtx, end := context.WithCancel(ctx)
	ended := make(chan struct{}, 2)
	go func() { must(t, listener.Serve(serverCtx, ctx, conn)); ended <- struct{}{} }()
	go func() { dials.Run(ctx, ctx); ended <- struct{}{} }()
	defer func() { cancel(); <-ended; <-ended }()

	<-above.changed
	target, ok := client.Choose(netip.Prefix{}, datagram.Target{})
	if !ok || target.Name != "server" || !client.Usable(target) {
		t.Fatalf("the server with an open link: %+v, %v", target, ok)
	}
	if _, ok := client.Choose(netip.Prefix{}, target); ok {
		t.Error("the server that refused is chosen again")
	}
	header, err := wire.Header{Source: netip.MustParseAddrPort("192.0.2.1:5"), Destination: netip.MustParseAddrPort("192.0.2.2:53")}.AppendDatagram(nil, wire.Native)
	must(t, err)
	for _, tt := range []struct {
		flow   datagram.FlowID
		header []byte
		want   string
	}{{7, header, "192.0.2.1:5 x"}, {7, nil, "192.0.2.1:5 x"}, {8, nil, datagram.UnknownFlow.String()}} {
		must(t, target.Link.Send(tt.flow, tt.header, []byte("x")))
		target.Link.Flush()
		if got := <-above.said; got != (said{target.Link, tt.want}) {
			t.Errorf("flow %d is answered by %+v, want %q of its link", tt.flow, got, tt.want)
		}
	}
	target.Link.Forget(7)
	if got := <-below.forgotten; got != 7 {
		t.Errorf("flow %d is forgotten", got)
	}
	end()
	<-below.lost
	<-above.changed
	if client.Usable(target) {
		t.Error("a link that has retired is used")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
		panic(err)
	}
}
