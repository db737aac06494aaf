package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/ports"
	"portredirector/internal/relay"
	"portredirector/internal/server"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
	"portredirector/internal/wire/wiretest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// claim is the peer of these tests: an address of this machine, so that no
// return route is needed.
var claim = netip.MustParseAddrPort("127.0.0.77:4444")

// names is a resolver with a fixed list.
type names map[string][]string

func (n names) LookupNetIP(_ context.Context, network, host string) (list []netip.Addr, err error) {
	for _, s := range n[host] {
		if a := netip.MustParseAddr(s); a.Is4() == (network == "ip4") {
			list = append(list, a)
		}
	}
	if len(list) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return list, nil
}

// cache returns a cache over a resolver.
func cache(r server.Resolver) *server.Names {
	return server.NewNames(r, slog.New(slog.DiscardHandler))
}

// moving is a resolver whose one name comes to mean something else.
type moving struct {
	mu    sync.Mutex
	addrs []string
}

func (m *moving) set(addrs ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.addrs = addrs
}

func (m *moving) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return names{host: m.addrs}.LookupNetIP(ctx, network, host)
}

// containers are those that there are, by name; one without addresses is away.
type containers map[string][]string

func (c containers) Address(name string, claim netip.Addr) (netip.Addr, error) {
	if len(c[name]) == 0 {
		return netip.Addr{}, errors.New("no container named " + name)
	}
	for _, s := range c[name] {
		if a := netip.MustParseAddr(s); a.Is4() == claim.Is4() {
			return a, nil
		}
	}
	return netip.Addr{}, nil
}

// stuck is a resolver that never answers.
type stuck struct{}

func (stuck) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// routes are return routes that are all there.
type routes struct{ marked chan netip.AddrPort }

func (r routes) Ready(ports.Endpoint) (uint32, bool) { return 0, true }

func (r routes) Mark(_ context.Context, a ports.Endpoint) (uint32, error) {
	r.marked <- a.AddrPort
	return 0, nil
}

// noRoutes are return routes that cannot be had.
type noRoutes struct{}

func (noRoutes) Ready(ports.Endpoint) (uint32, bool) { return 0, false }

func (noRoutes) Mark(context.Context, ports.Endpoint) (uint32, error) { return 0, errors.New("none") }

type rig struct {
	server  *server.Server
	service *nstestService
	marked  chan netip.AddrPort // what a mark was asked for
}

// nstestService is a service on 127.0.0.1 that reports who came and echoes.
type nstestService struct {
	*net.TCPListener
	port  uint16
	peers chan string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	nstest.Require(t)
	engine, err := relay.New(relay.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{
		service: &nstestService{l, l.Addr().(*net.TCPAddr).AddrPort().Port(), make(chan string, 10)},
		marked:  make(chan netip.AddrPort, 10),
	}
	r.server = &server.Server{
		Services:       map[uint16]server.Service{80: {Port: r.service.port}},
		Book:           server.Book{Names: cache(names{})},
		Dialer:         new(socket.TransparentDialer),
		Relay:          engine,
		Log:            slog.New(slog.DiscardHandler),
		Routes:         routes{r.marked},
		HeaderTimeout:  30 * time.Second,
		ConnectTimeout: 30 * time.Second,
	}
	r.server.Tell.To = r.server.Log
	var echoes sync.WaitGroup
	echoes.Go(func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			r.service.peers <- c.RemoteAddr().String()
			echoes.Go(func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = engine.Shutdown(ctx)
		_ = l.Close()
		echoes.Wait()
	})
	return r
}

// open opens a link, which the server handles, and writes b to it.
func (r *rig) open(t *testing.T, b []byte) *net.TCPConn {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := socket.Detach(accepted)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	r.server.Handle(fd, c.LocalAddr().(*net.TCPAddr).AddrPort())
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	return c
}

// connect opens a native link, whose frames the test sends and reads.
func (r *rig) connect(t *testing.T) *wiretest.End {
	t.Helper()
	return wiretest.Client(r.open(t, nil))
}

// say begins an exchange.
func say(t *testing.T, l *wiretest.End, h wire.Header, more string) {
	t.Helper()
	nstest.Must(t, l.SendHeader(h))
	_, err := io.WriteString(l, more)
	nstest.Must(t, err)
}

// wantStatus wants an answer.
func wantStatus(t *testing.T, l *wiretest.End, want wire.Status) {
	t.Helper()
	if got, err := l.ReadStatus(); err != nil || got != want {
		t.Errorf("got status %d, %v, want %d", got, err, want)
	}
}

// wantEcho wants the service to return what was said.
func wantEcho(t *testing.T, l *wiretest.End, want string) {
	t.Helper()
	wantStatus(t, l, wire.Connected)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(l, got); err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

// finish ends an exchange that was served, in order.
func finish(t *testing.T, l *wiretest.End) {
	t.Helper()
	nstest.Must(t, l.CloseWrite())
	if got, err := io.ReadAll(l); err != nil || len(got) > 0 {
		t.Errorf("got %q, %v, want the end", got, err)
	}
}

// split is a connection whose first write is in two pieces.
type split struct {
	net.Conn

	at      int
	between func()
}

func (s *split) Write(b []byte) (int, error) {
	if s.between == nil {
		return s.Conn.Write(b)
	}
	n, err := s.Conn.Write(b[:s.at])
	if err != nil {
		return n, err
	}
	s.between()
	s.between = nil
	m, err := s.Conn.Write(b[s.at:])
	return n + m, err
}

// pieces is a connection whose writes are in pieces of so many bytes.
type pieces struct {
	net.Conn

	size int
}

func (p pieces) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = p.Conn.Write(b[n:min(n+p.size, len(b))])
		n += m
		time.Sleep(time.Millisecond)
	}
	return n, err
}

func encode(t *testing.T, h wire.Header, f wire.Form) []byte {
	t.Helper()
	b, err := h.Append(nil, f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func to(port uint16) wire.Header {
	return wire.Header{
		Source: claim, ID: wire.NewID(), Answer: true,
		Destination: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port),
	}
}

func TestServiceSeesTheClaim(t *testing.T) {
	for _, form := range []wire.Form{wire.V2, wire.V1, wire.Py} {
		t.Run(form.String(), func(t *testing.T) {
			r := newRig(t)
			c := r.open(t, append(encode(t, to(80), form), "hello"...))
			r.wantPeer(t, claim)
			const want = "hello"
			b := make([]byte, len(want))
			if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
				t.Errorf("got %q, %v, want %q", b, err, want)
			}
		})
	}
}

// wantPeer wants the service to see a peer.
func (r *rig) wantPeer(t *testing.T, want netip.AddrPort) {
	t.Helper()
	if got := <-r.service.peers; got != want.String() {
		t.Errorf("the service saw %s, want %s", got, want)
	}
}

// TestLinkCarriesManyPeers brings peers over one link, one after another, each with an address of its own.
func TestLinkCarriesManyPeers(t *testing.T) {
	r := newRig(t)
	l := r.connect(t)
	for i := range uint16(50) {
		h := to(80)
		h.Source = netip.AddrPortFrom(claim.Addr(), claim.Port()+i)
		say(t, l, h, "hello")
		r.wantPeer(t, h.Source)
		wantEcho(t, l, "hello")
		finish(t, l)
	}
	if got := r.server.Refused(); got != (server.Refused{}) {
		t.Errorf("refused are %v", got)
	}
}

// TestResetsOfExchanges resets exchanges at each moment. The link lives on.
func TestResetsOfExchanges(t *testing.T) {
	r := newRig(t)
	l := r.connect(t)
	for _, served := range []bool{true, false, true, false, true} {
		say(t, l, to(80), "hello")
		if served {
			wantEcho(t, l, "hello")
		}
		nstest.Must(t, l.Reset())
		wantStatus(t, l, wire.Connected)
		if _, err := io.Copy(io.Discard, l); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v, want a reset", err)
		}
		<-r.service.peers
	}
	say(t, l, to(81), "")
	wantStatus(t, l, wire.NoService)
	nstest.Must(t, l.Reset())
	say(t, l, to(80), "hello")
	wantEcho(t, l, "hello")
}

// TestAnswers looks at the status for everything that can be wrong, and
// at what a client sees that did not ask for one.
func TestAnswers(t *testing.T) {
	tests := map[string]struct {
		set  func(s *server.Server)
		head func() wire.Header
		want wire.Status
	}{
		"no service": {
			head: func() wire.Header { return to(81) },
			want: wire.NoService,
		},
		"another family": {
			set:  func(s *server.Server) { s.Services[80] = server.Service{Host: "::1", Port: 1} },
			want: wire.NoService,
		},
		"a name of another family": {
			set: func(s *server.Server) {
				s.Services[80] = server.Service{Host: "six", Port: 1}
				s.Book.Names = cache(names{"six": {"::1"}})
			},
			want: wire.NoService,
		},
		"the service refuses": {
			set:  func(s *server.Server) { s.Services[80] = server.Service{Port: 1} },
			want: wire.Refused,
		},
		"unreachable": {
			set: func(s *server.Server) {
				s.Services[80] = server.Service{Host: "192.0.2.99", Port: 1} // no route: the namespace has only lo
			},
			want: wire.Unreachable,
		},
		"time is over": {
			set: func(s *server.Server) {
				s.Services[80] = server.Service{Host: "slow", Port: 1}
				s.Book.Names = cache(stuck{})
				s.ConnectTimeout = 50 * time.Millisecond
			},
			want: wire.Unreachable,
		},
		"no container": {
			set: func(s *server.Server) {
				s.Services[80] = server.Service{Host: "docker:web", Port: 1}
				s.Book.Containers = containers{}
			},
			want: wire.Unreachable,
		},
		"a container of another family": {
			set: func(s *server.Server) {
				s.Services[80] = server.Service{Host: "docker:web", Port: 1}
				s.Book.Containers = containers{"web": {"fd00::2"}}
			},
			want: wire.NoService,
		},
		"no return route": {
			set:  func(s *server.Server) { s.Routes = noRoutes{} },
			want: wire.Unreachable,
		},
	}
	for name, tt := range tests {
		for _, form := range []wire.Form{wire.Native, wire.V2} {
			t.Run(name+"/"+form.String(), func(t *testing.T) {
				r := newRig(t)
				if tt.set != nil {
					tt.set(r.server)
				}
				h := to(80)
				if tt.head != nil {
					h = tt.head()
				}
				// The peer's bytes are there already: they must not keep the
				// answer from arriving.
				early := strings.Repeat("early", 1000)
				if form == wire.Native {
					l := r.connect(t)
					for range 3 { // the link lives on
						say(t, l, h, early)
						wantStatus(t, l, tt.want)
						nstest.Must(t, l.CloseWrite())
					}
					return
				}
				c := r.open(t, append(encode(t, h, form), early...))
				if got, err := io.ReadAll(c); err == nil || len(got) != 0 {
					t.Errorf("got %q, %v, want a reset", got, err)
				}
			})
		}
	}
}

// visit has a peer reach the service of a rig.
func (r *rig) visit(t *testing.T) {
	t.Helper()
	l := r.connect(t)
	say(t, l, to(80), "")
	wantStatus(t, l, wire.Connected)
	finish(t, l)
	<-r.service.peers
}

// wantMarks looks at the addresses that a mark was asked for.
func (r *rig) wantMarks(t *testing.T, want ...string) {
	t.Helper()
	for _, addr := range want {
		select {
		case got := <-r.marked:
			if got.Addr().String() != addr {
				t.Errorf("a mark for %s, want %s", got, addr)
			}
		default:
			t.Errorf("no mark for %s", addr)
		}
	}
	if len(r.marked) > 0 {
		t.Errorf("a mark for %s", <-r.marked)
	}
}

// TestCountedPorts names ports without a service: they are counted as one.
func TestCountedPorts(t *testing.T) {
	r := newRig(t)
	l := r.connect(t)
	for port := range uint16(5) {
		say(t, l, to(1000+port), "")
		wantStatus(t, l, wire.NoService)
		nstest.Must(t, l.CloseWrite())
		_, _ = io.ReadAll(l)
	}
	if counted := slices.Collect(maps.Keys(r.server.Track.Totals())); !slices.Equal(counted, []ports.Port{{}}) {
		t.Errorf("counted: %v", counted)
	}
}

// TestNames: of several addresses the first that answers is taken, and the mark is asked for each by itself. The one that
// failed comes last for the next peer.
func TestNames(t *testing.T) {
	r := newRig(t)
	r.server.Book.Names = cache(names{"svc": {"127.0.0.9", "127.0.0.1", "::1"}}) // nobody listens on the first
	r.server.Services[80] = server.Service{Host: "svc", Port: r.service.port}
	r.visit(t)
	r.wantMarks(t, "127.0.0.9", "127.0.0.1")
	r.visit(t)
	r.wantMarks(t) // the first dial needs none to be set up
}

// TestNameThatMoved: the new address of a service is found before a peer is refused.
func TestNameThatMoved(t *testing.T) {
	r := newRig(t)
	moved := new(moving)
	moved.set("127.0.0.9")
	r.server.Book.Names = cache(moved)
	r.server.Services[80] = server.Service{Host: "svc", Port: r.service.port}
	refused := r.connect(t)
	say(t, refused, to(80), "")
	wantStatus(t, refused, wire.Refused)
	r.wantMarks(t, "127.0.0.9")
	moved.set("127.0.0.1")
	time.Sleep(time.Second) // between two lookups of a name
	r.visit(t)
	r.wantMarks(t, "127.0.0.1")
}

// TestContainer: the address is looked up for each peer, and no goroutine is needed for it:
// the routes are never asked to wait.
func TestContainer(t *testing.T) {
	r := newRig(t)
	r.server.Services[80] = server.Service{Host: "docker:web", Port: r.service.port}
	c := containers{"web": {"127.0.0.1"}}
	r.server.Book.Containers = c
	link := r.connect(t)
	say(t, link, to(80), "")
	wantStatus(t, link, wire.Connected)
	r.wantPeer(t, claim)
	if len(r.marked) > 0 {
		t.Errorf("a mark was waited for, to %s", <-r.marked)
	}
	if got, want := (server.Service{Host: "docker:web", Port: 80}).String(), "docker:web:80"; got != want {
		t.Errorf("it is written %s, want %s", got, want)
	}
}

func TestAddresses(t *testing.T) {
	run := containers{"both": {"172.17.0.2", "fd00::2"}, "four": {"172.17.0.2"}}
	list := names{"both": {"10.0.0.1", "fd00::1"}, "four": {"10.0.0.1"}}
	for host, want := range map[string]string{
		"":          "[127.0.0.1 ::1]",
		"10.0.0.1":  "[10.0.0.1]",
		"fd00::1":   "[fd00::1]",
		"both":      "[10.0.0.1 fd00::1]",
		"four":      "[10.0.0.1]",
		"127.0.0.1": "[127.0.0.1]",

		"docker:both": "[172.17.0.2 fd00::2]",
		"docker:four": "[172.17.0.2]",
	} {
		got, err := server.Book{Names: cache(list), Containers: run}.Addresses(t.Context(), server.Service{Host: host, Port: 1})
		var s []string
		for _, a := range got {
			s = append(s, a.String())
		}
		if text := "[" + strings.Join(s, " ") + "]"; err != nil || text != want {
			t.Errorf("%q: %s, %v, want %s", host, text, err, want)
		}
	}
	if _, err := (server.Book{Names: cache(list)}).Addresses(t.Context(), server.Service{Host: "none", Port: 1}); err == nil {
		t.Error("a name without addresses gives no error")
	}
}

// TestNoHeader: what is no header gets no byte, and no service is dialed.
func TestNoHeader(t *testing.T) {
	for name, b := range map[string]string{
		"noise":       "GET / HTTP/1.0\r\n\r\n",
		"TLS":         "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00",
		"half a line": "PROXY TCP4 1.2.3.4",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.server.HeaderTimeout = 50 * time.Millisecond
			c := r.open(t, []byte(b))
			if got, err := io.ReadAll(c); len(got) != 0 || err == nil {
				t.Errorf("got %q, %v, want a reset", got, err)
			}
			select {
			case p := <-r.service.peers:
				t.Errorf("the service was dialed from %s", p)
			default:
			}
		})
	}
}

// TestHealthCheck: a header that claims nobody reaches no service.
func TestHealthCheck(t *testing.T) {
	r := newRig(t)
	for _, form := range []wire.Form{wire.V2, wire.V1} {
		c := r.open(t, encode(t, wire.Header{Local: true}, form))
		if got, err := io.ReadAll(c); err != nil || len(got) > 0 {
			t.Errorf("%s: got %q, %v", form, got, err)
		}
	}
	l := r.connect(t)
	for range 3 { // each is a whole exchange
		say(t, l, wire.Header{Local: true, Answer: true}, "")
		wantStatus(t, l, wire.Connected)
	}
	if len(r.marked) != 0 {
		t.Error("a service was looked for")
	}
	say(t, l, to(80), "hello")
	wantEcho(t, l, "hello")
}

// TestCheckThroughNAT sends headers that describe the link itself, before a NAT has changed its destination or both
// addresses. None is a refused peer, and none reaches a service.
func TestCheckThroughNAT(t *testing.T) {
	for _, form := range []wire.Form{wire.V2, wire.V1, wire.Py} {
		for name, change := range map[string]func(from, to netip.AddrPort) (source, destination netip.AddrPort){
			"destination, with its port": func(from, _ netip.AddrPort) (netip.AddrPort, netip.AddrPort) {
				return from, netip.MustParseAddrPort("192.0.2.1:9999")
			},
			"both addresses": func(from, to netip.AddrPort) (netip.AddrPort, netip.AddrPort) {
				return netip.AddrPortFrom(netip.MustParseAddr("198.51.100.9"), from.Port()),
					netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), to.Port())
			},
		} {
			t.Run(form.String()+"/"+name, func(t *testing.T) {
				r := newRig(t)
				c := r.open(t, nil)
				source, destination := change(c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort())
				if _, err := c.Write(encode(t, wire.Header{Source: source, Destination: destination}, form)); err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(c); err != nil || len(got) != 0 {
					t.Errorf("got %q, %v, want the end", got, err)
				}
				if got := r.server.Refused(); got != (server.Refused{}) {
					t.Errorf("refused are %v", got)
				}
			})
		}
	}
}

// TestRetired checks that a retired server refuses no peer, and serves peers that still reach it.
func TestRetired(t *testing.T) {
	r := newRig(t)
	unknown, known := r.connect(t), r.connect(t)
	r.server.Relay.Retire()
	say(t, unknown, to(9), "")
	if _, err := unknown.ReadStatus(); !errors.Is(err, wiretest.ErrBye) {
		t.Errorf("a peer that the next server may serve gets %v, want a bye", err)
	}
	say(t, known, to(80), "hello")
	wantEcho(t, known, "hello")
	if n := r.server.Track.Len(); n != 1 {
		t.Errorf("%d peers are tracked, want 1", n)
	}
}

// TestDraining: a header that comes after the drain began is refused, and one that
// does not come is cut.
func TestDraining(t *testing.T) {
	r := newRig(t)
	late, never := r.open(t, nil), r.open(t, []byte("PROXY "))
	ctx, cut := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	l := wiretest.Client(&split{Conn: late, at: 4, between: func() {
		go func() { ended <- r.server.Relay.Shutdown(ctx) }()
		for !r.server.Relay.Draining() {
			time.Sleep(time.Millisecond)
		}
	}})
	say(t, l, to(80), "")
	wantStatus(t, l, wire.Draining)
	nstest.Must(t, l.CloseWrite())
	wantBye(t, late)
	cut()
	if got, err := io.ReadAll(never); len(got) != 0 || err == nil {
		t.Errorf("got %q, %v, want a reset", got, err)
	}
	if err := <-ended; err != nil { // there was no peer
		t.Errorf("Shutdown returned %v", err)
	}
}

// TestHeaderByteByByte: however a header comes in, what is behind it is the peer's.
func TestHeaderByteByByte(t *testing.T) {
	for _, form := range []wire.Form{wire.V2, wire.V1, wire.Py} {
		r := newRig(t)
		c := r.open(t, nil)
		_, err := pieces{c, 1}.Write(append(encode(t, to(80), form), "hello"...))
		nstest.Must(t, err)
		<-r.service.peers
		got := make([]byte, 5)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
			t.Errorf("%s: got %q, %v", form, got, err)
		}
	}
	r := newRig(t)
	l := wiretest.Client(pieces{r.open(t, nil), 1})
	for range 2 { // the first is bare, the second in a frame
		say(t, l, to(80), "hello")
		wantEcho(t, l, "hello")
		finish(t, l)
	}
}

// TestWrongFrames sends frames that must not be there, on new links and on one that has carried a peer. The link is reset, and
// counted.
func TestWrongFrames(t *testing.T) {
	header := encode(t, to(80), wire.Native)
	peer := func(more ...byte) []byte { return append(wire.AppendFrame(nil, wire.KindHeader, header...), more...) }
	frame := func(k wire.Kind, content ...byte) []byte { return wire.AppendFrame(nil, k, content...) }
	for name, tt := range map[string]struct {
		said []byte
		want server.Refused
	}{
		// In place of a header.
		"an unknown kind":          {frame(7), server.Refused{Frame: 1}},
		"kind 0":                   {frame(0), server.Refused{Frame: 1}},
		"data":                     {frame(wire.KindData, 'x'), server.Refused{Frame: 1}},
		"the end":                  {frame(wire.KindEnd), server.Refused{Frame: 1}},
		"a reset":                  {frame(wire.KindReset), server.Refused{Frame: 1}},
		"a status":                 {frame(wire.KindStatus, 0), server.Refused{Frame: 1}},
		"bye":                      {frame(wire.KindBye), server.Refused{Frame: 1}},
		"a header without a frame": {header, server.Refused{Frame: 1}},
		"an empty header":          {frame(wire.KindHeader), server.Refused{Frame: 1}},
		"a header of 16 MiB":       {wire.AppendHead(nil, wire.KindHeader, wire.MaxData), server.Refused{Frame: 1}},
		"a truncated header":       {frame(wire.KindHeader, header[:len(header)-1]...), server.Refused{Frame: 1}},
		"a header and a byte":      {frame(wire.KindHeader, append(bytes.Clone(header), 0)...), server.Refused{Frame: 1}},
		"two headers in a frame":   {frame(wire.KindHeader, append(bytes.Clone(header), header...)...), server.Refused{Frame: 1}},
		"a header in v2":           {frame(wire.KindHeader, encode(t, to(80), wire.V2)...), server.Refused{Frame: 1}},
		"a header in v1":           {frame(wire.KindHeader, encode(t, to(80), wire.V1)...), server.Refused{Frame: 1}},
		"a changed header":         {frame(wire.KindHeader, changed(header)...), server.Refused{Header: 1}},
		// Behind a header.
		"a header within an exchange": {peer(peer()...), server.Refused{Frame: 1}},
		"a status within an exchange": {peer(frame(wire.KindStatus, 0)...), server.Refused{Frame: 1}},
		"bye within an exchange":      {peer(frame(wire.KindBye)...), server.Refused{Frame: 1}},
		"empty data":                  {peer(frame(wire.KindData)...), server.Refused{Frame: 1}},
		"an end with content":         {peer(frame(wire.KindEnd, 0)...), server.Refused{Frame: 1}},
		"a reset with content":        {peer(frame(wire.KindReset, 0)...), server.Refused{Frame: 1}},
		"an unknown kind behind data": {peer(append(frame(wire.KindData, 'x'), 9, 0, 0, 0)...), server.Refused{Frame: 1}},
		"an end twice":                {peer(append(frame(wire.KindEnd), frame(wire.KindEnd)...)...), server.Refused{Frame: 1}},
		"data behind an end":          {peer(append(frame(wire.KindEnd), frame(wire.KindData, 'x')...)...), server.Refused{Frame: 1}},
		"a header behind data":        {peer(append(frame(wire.KindData, 'x'), peer()...)...), server.Refused{Frame: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.wantEnded(t, tt.said)
			r.wantRefused(t, tt.want)
		})
	}
}

// TestWrongFramesBehindAnExchange sends frames that must not be there behind a reset, and behind a refusal.
func TestWrongFramesBehindAnExchange(t *testing.T) {
	for name, tt := range map[string]struct {
		port    uint16
		behind  wire.Kind
		content []byte
	}{
		"data behind a reset":             {80, wire.KindReset, nil},
		"data behind the end, refused":    {81, wire.KindEnd, nil},
		"data behind a reset, refused":    {81, wire.KindReset, nil},
		"an unknown kind, refused":        {81, 9, nil},
		"an end with content, refused":    {81, wire.KindEnd, []byte("x")},
		"a header in an exchange, denied": {81, wire.KindHeader, encode(t, to(80), wire.Native)},
	} {
		t.Run(name, func(t *testing.T) {
			said := wire.AppendFrame(nil, wire.KindHeader, encode(t, to(tt.port), wire.Native)...)
			said = wire.AppendFrame(said, tt.behind, tt.content...)
			newRig(t).wantEnded(t, wire.AppendFrame(said, wire.KindData, 'x'))
		})
	}
}

// wantEnded says something on a link that has carried a peer, and wants the link to be reset, and other links to live on.
func (r *rig) wantEnded(t *testing.T, said []byte) {
	t.Helper()
	l := r.connect(t)
	say(t, l, to(80), "hello")
	wantEcho(t, l, "hello")
	finish(t, l)
	r.wantPeer(t, claim)
	_, err := l.Conn.Write(said)
	nstest.Must(t, err)
	if _, err := io.Copy(io.Discard, l.Conn); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
	r.visit(t)
}

// changed returns a header with another source.
func changed(header []byte) []byte {
	b := bytes.Clone(header)
	b[16+3] ^= 1
	return b
}
