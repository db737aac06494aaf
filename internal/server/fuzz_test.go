package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/limit"
	"portredirector/internal/relay"
	"portredirector/internal/server"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
	"portredirector/internal/wire/wiretest"
)

// Ways in which what is fuzzed comes to a server.
const (
	toPlain     = iota // that has no keys
	toKeyed            // that has, and is not told any
	encrypted          // behind a handshake
	authentic          // the same, and not encrypted
	sealed             // the same, with what is a header sealed
	waysOfLinks        // how many there are
)

// FuzzServer sends whatever comes, on whatever link, in whatever pieces: nothing panics, the link ends, what is served gets an
// echo and everything else nothing but a status, if it asked for one. Descriptors come back.
func FuzzServer(f *testing.F) {
	r := newFuzzRig(f)
	for _, form := range []wire.Form{wire.Native, wire.V2, wire.V1, wire.Py} {
		b, err := to(80).Append(nil, form)
		nstest.Must(f, err)
		for way := range byte(waysOfLinks) {
			f.Add(append(b, "hello"...), []byte{1, 11, 4}, way)
			f.Add(b, []byte{}, way)
			f.Add(b[:len(b)-1], []byte{12}, way)
		}
	}
	for _, data := range linksOfPeers(f) {
		for way := range byte(waysOfLinks) {
			f.Add(data, []byte{5}, way)
			f.Add(data[:len(data)-1], []byte{70, 5, 70}, way)
			f.Add(append(bytes.Clone(data), 7, 0, 0, 1), []byte{1, 200}, way)
		}
	}
	for way := range byte(waysOfLinks) {
		f.Add([]byte{}, []byte{}, way)
		f.Add([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), []byte{1, 4}, way)
		f.Add([]byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"), []byte{2}, way)
		f.Add([]byte("GET / HTTP/1.0\r\n\r\n"), []byte{3}, way)
	}
	f.Fuzz(func(t *testing.T, data, cuts []byte, way byte) {
		way %= waysOfLinks
		c := r.connect(t, way)
		h, form, herr := wire.Read(bytes.NewReader(data))
		peers, rest := peersOf(data)
		if way == sealed {
			data = sealAll(peers, rest, c.mac)
		}
		native := herr == nil && form == wire.Native
		got, err := c.talk(data, cuts)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			t.Fatal("the link lives on")
		case way == toKeyed && native:
			wantDenials(t, got)
		case way == toKeyed && errors.Is(herr, wire.ErrTLS): // an alert
		case native && way != authentic:
			wantAnswers(t, c, peers, got)
		case herr != nil, way == toKeyed, way == authentic, way == sealed, h.Local:
			if len(got) > 0 {
				t.Errorf("%q was answered by %q", data, got)
			}
		case err == nil && len(got) > 0 && !bytes.Equal(got, after(data)):
			t.Errorf("%d bytes came back of %d: %q", len(got), len(after(data)), got)
		}
		r.check(t)
	})
}

// linksOfPeers returns what clients say on native links that carry one peer after another.
func linksOfPeers(f *testing.F) (list [][]byte) {
	f.Helper()
	local := wire.Header{Local: true}
	own := wire.Header{Source: netip.MustParseAddrPort("127.0.0.1:1"), Destination: netip.MustParseAddrPort("127.0.0.1:80")}
	data := wire.AppendFrame(nil, wire.KindData, []byte("hello")...)
	ended, isReset := wire.AppendFrame(nil, wire.KindEnd), wire.AppendFrame(nil, wire.KindReset)
	for _, headers := range [][]wire.Header{
		{to(80)},
		{to(81)},
		{local},
		{own},
		{to(80), to(80), to(80)},
		{to(81), to(80), local, to(80)},
		{local, local, to(80)},
	} {
		for _, behind := range [][]byte{ended, isReset, append(bytes.Clone(data), ended...), append(bytes.Clone(data), isReset...)} {
			var all []byte
			for i, h := range headers {
				b, err := h.Append(nil, wire.Native)
				nstest.Must(f, err)
				if i > 0 {
					b = wire.AppendFrame(nil, wire.KindHeader, b...)
				}
				all = append(all, b...)
				if !h.Local {
					all = append(all, behind...)
				}
			}
			list = append(list, all)
		}
	}
	return list
}

// carried has the header of one peer and the frames behind it.
type carried struct {
	header  wire.Header
	frames  []byte // what is behind the header
	content []byte
	over    wire.Terminator // 0 if there is none
}

// peersOf returns what native data says, as far as that is without an error, and the rest.
func peersOf(data []byte) (list []carried, rest []byte) {
	r := bytes.NewReader(data)
	h, form, err := wire.Read(r)
	if form != wire.Native {
		return nil, data
	}
	for err == nil {
		said := data[len(data)-r.Len():]
		p := carried{header: h, over: wire.Ended}
		if !h.Local {
			var d wire.Decoder
			b := bytes.Clone(said)
			n, left, derr := d.Decode(b)
			p.content, p.over = b[:n], d.Over()
			if p.over == 0 || derr != nil {
				return append(list, p), said
			}
			p.frames, said = said[:len(said)-left], said[len(said)-left:]
		}
		list, rest = append(list, p), said
		r = bytes.NewReader(data)
		_, _ = r.Seek(int64(len(data)-len(said)), io.SeekStart)
		h, _, err = wire.ReadNext(r, nil, 0)
	}
	return list, rest
}

// sealAll says the same on a link whose headers are sealed.
func sealAll(list []carried, rest, key []byte) (b []byte) {
	for i, p := range list {
		h, err := p.header.Append(nil, wire.Native)
		if err != nil {
			return b
		}
		h = wire.Seal(h, key, uint64(i))
		if i > 0 {
			h = wire.AppendFrame(nil, wire.KindHeader, h...)
		}
		b = append(append(b, h...), p.frames...)
	}
	return append(b, rest...)
}

// wantDenials wants nothing but refusals.
func wantDenials(t *testing.T, got []byte) {
	t.Helper()
	denied := wire.AppendFrame(nil, wire.KindStatus, byte(wire.NotAuthorized))
	if len(got) == 0 || len(bytes.ReplaceAll(got, denied, nil)) > 0 {
		t.Errorf("without a key it got %q", got)
	}
}

// wantAnswers wants an answer for each peer, and an echo for each that was served and has ended.
func wantAnswers(t *testing.T, c *fuzzLink, list []carried, got []byte) {
	t.Helper()
	for i, p := range list {
		if p.header.Source == c.from { // HAProxy's health check
			return
		}
		d := wire.Decoder{Answer: true}
		b := bytes.Clone(got)
		if p.header.Local {
			b = b[:min(len(b), wire.FrameHead+1)]
		}
		n, left, err := d.Decode(b)
		if p.header.Local {
			left = len(got) - len(b)
		}
		status, known := d.Status()
		served := known && status == wire.Connected && !p.header.Local
		switch {
		case err != nil:
			t.Errorf("answer %d: %v", i, err)
			return
		case !known && p.over == wire.Ended:
			t.Errorf("answer %d of %d is missing", i, len(list))
			return
		case served && p.over == wire.Ended && (d.Over() != wire.Ended || !bytes.Equal(b[:n], p.content)):
			t.Errorf("%d bytes of %d came back, and terminator %d", n, len(p.content), d.Over())
		case n > 0 && p.over != wire.Ended:
			t.Errorf("%d bytes came back for a peer that has not ended", n)
		case p.header.Local && known && status != wire.Connected:
			t.Errorf("nobody got status %d", status)
		}
		if p.over != wire.Ended && (!known || d.Over() == 0) {
			got = got[:0] // the link was reset
			break
		}
		got = got[len(got)-left:]
	}
	if len(got) > 0 {
		t.Errorf("%q came for nobody", got)
	}
}

// after has the bytes behind the header.
func after(data []byte) []byte {
	there := bytes.NewReader(data)
	_, _, _ = wire.Read(there)
	return data[len(data)-there.Len():]
}

// FuzzRoundTrip brings peers to the service as themselves, and so their bytes, in whatever pieces, and several over one native
// link.
func FuzzRoundTrip(f *testing.F) {
	r := newFuzzRig(f)
	for way := range byte(waysOfLinks) {
		f.Add(uint32(77), uint16(4444), way, []byte("hello"), []byte{1, 11, 4})
		f.Add(uint32(0xffffff), uint16(65535), way, []byte{}, []byte{})
	}
	f.Fuzz(func(t *testing.T, host uint32, port uint16, way byte, payload, cuts []byte) {
		way %= waysOfLinks
		form := wire.Form(port % 4)
		if way == sealed || way == authentic {
			way, form = sealed, wire.Native
		}
		if way == toKeyed {
			way = encrypted
		}
		h := to(80)
		// No broadcast or unspecified address; nor the one that all else here is from.
		addr := netip.AddrFrom4([4]byte{127, byte(host>>16) | 1, byte(host >> 8), max(1, min(byte(host), 254))})
		h.Source = netip.AddrPortFrom(addr, max(port, 1))
		c := r.connect(t, way)
		wantPeer := func(others uint64) {
			t.Helper()
			if from := <-r.peers; from != h.Source && (from.Addr() != h.Source.Addr() || r.dialer.Counts().AnyPort == others) {
				t.Errorf("the service saw %s, want %s", from, h.Source)
			}
		}
		if form != wire.Native {
			data, err := h.Append(nil, form)
			nstest.Must(t, err)
			others := r.dialer.Counts().AnyPort
			if got, err := c.talk(append(data, payload...), cuts); err != nil || !bytes.Equal(got, payload) {
				t.Errorf("got %q, %v, want %q", got, err, payload)
				return
			}
			wantPeer(others)
			r.check(t)
			return
		}
		defer c.tcp.Close()
		_ = c.tcp.SetDeadline(time.Now().Add(20 * time.Second))
		l := wiretest.Client(&cutting{c.conn, cuts})
		l.Key = c.mac
		for i := range uint16(3) {
			h.Source = netip.AddrPortFrom(addr, max(port+i, 1))
			others := r.dialer.Counts().AnyPort
			nstest.Must(t, l.SendHeader(h))
			_, err := l.Write(payload)
			nstest.Must(t, err, l.CloseWrite())
			wantStatus(t, l, wire.Connected)
			if got, err := io.ReadAll(l); err != nil || !bytes.Equal(got, payload) {
				t.Errorf("peer %d got %q, %v, want %q", i, got, err, payload)
				return
			}
			wantPeer(others)
		}
		nstest.Must(t, c.tcp.Close())
		r.check(t)
	})
}

// cutting is a connection whose first bytes go in pieces.
type cutting struct {
	net.Conn

	cuts []byte
}

func (c *cutting) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		piece := b[n:]
		if len(c.cuts) > 0 {
			piece, c.cuts = piece[:min(int(c.cuts[0]), len(piece))], c.cuts[1:]
		}
		var m int
		m, err = c.Conn.Write(piece)
		n += m
		runtime.Gosched()
	}
	return n, err
}

// fuzzRig is a server with keys and one without, an engine for both and a service.
type fuzzRig struct {
	plain, keyed *server.Server
	dialer       *socket.TransparentDialer
	front        *net.TCPListener // to which links are connected
	own, mine    auth.PrivateKey
	dial         *auth.Dialer // authenticates
	cert         tls.Certificate
	peers        chan netip.AddrPort
	bad          *badLines

	descriptors int
	heap        uint64
	turns       int
}

func newFuzzRig(f *testing.F) *fuzzRig {
	f.Helper()
	nstest.Require(f)
	// The ports of links would run out.
	_ = os.WriteFile("/proc/sys/net/ipv4/tcp_max_tw_buckets", []byte("0"), 0o600)
	r := &fuzzRig{
		own: auth.NewKey(), mine: auth.NewKey(), dialer: new(socket.TransparentDialer),
		peers: make(chan netip.AddrPort, 1), bad: new(badLines),
	}
	log := slog.New(r.bad)
	engine, err := relay.New(relay.Options{Log: log})
	nstest.Must(f, err)
	service, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	nstest.Must(f, err)
	r.front, err = net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	nstest.Must(f, err)
	r.cert = certificate(f, r.mine)
	r.dial, err = auth.DialWithKey(r.mine, []auth.PublicKey{r.own.Public()}, true)
	nstest.Must(f, err)
	acceptor, err := auth.AcceptWithKey(r.own, true)
	nstest.Must(f, err)
	clients := auth.Clients{r.mine.Public(): {Name: "one", Key: r.mine.Public()}}
	for _, s := range []**server.Server{&r.plain, &r.keyed} {
		*s = &server.Server{
			Services: map[uint16]server.Service{80: {Port: service.Addr().(*net.TCPAddr).AddrPort().Port()}},
			Book:     server.Book{Names: cache(names{})}, Dialer: r.dialer, Relay: engine, Log: log,
			Routes:        routes{make(chan netip.AddrPort, 1)},
			Claims:        loopback{},
			HeaderTimeout: time.Minute, ConnectTimeout: time.Minute,
			Unfinished: limit.Oldest[server.Origin]{Most: 10, MostEach: 5},
			Handshakes: limit.Oldest[server.Origin]{Most: 10, MostEach: 5},
			Known:      limit.Oldest[server.Origin]{Most: 10, MostEach: 5},
			Peers:      limit.Peers[server.Origin]{Most: 10, MostEach: 5},
		}
		(*s).Tell.To = log
	}
	r.keyed.Secure, r.keyed.Clients = acceptor, func() auth.Clients { return clients }
	var echoes sync.WaitGroup
	echoes.Go(func() {
		for {
			c, err := service.AcceptTCP()
			if err != nil {
				return
			}
			select {
			case <-r.peers: // that nobody has asked for
			default:
			}
			r.peers <- c.RemoteAddr().(*net.TCPAddr).AddrPort()
			echoes.Go(func() {
				if b, err := io.ReadAll(c); err == nil {
					_, _ = c.Write(b)
				}
				_ = c.Close()
			})
		}
	})
	f.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = engine.Shutdown(ctx)
		_, _ = r.front.Close(), service.Close()
		echoes.Wait()
	})
	return r
}

// loopback are the claims that have a way back here.
type loopback struct{}

func (loopback) CheckService(_, _ netip.Addr) error { return nil }

func (loopback) Check(a netip.Addr) error {
	if a.IsLoopback() {
		return nil
	}
	return errors.New("it has no way back")
}

// badLines is a log in which there should be no line of a bug.
type badLines struct {
	mu    sync.Mutex
	lines []string // guarded by mu
}

func (*badLines) Enabled(context.Context, slog.Level) bool { return true }
func (l *badLines) WithAttrs([]slog.Attr) slog.Handler     { return l }
func (l *badLines) WithGroup(string) slog.Handler          { return l }

func (l *badLines) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	if r.Level >= slog.LevelError || strings.Contains(line, "panic") {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lines = append(l.lines, line)
	}
	return nil
}

// fuzzLink is the client's end of a link.
type fuzzLink struct {
	tcp  *net.TCPConn
	conn net.Conn // it, or what is between it and the bytes
	mac  []byte
	from netip.AddrPort
}

// connect opens a link.
func (r *fuzzRig) connect(t *testing.T, way byte) *fuzzLink {
	t.Helper()
	c, err := net.DialTCP("tcp", nil, r.front.Addr().(*net.TCPAddr))
	nstest.Must(t, err)
	accepted, err := r.front.AcceptTCP()
	nstest.Must(t, err)
	fd, err := socket.Detach(accepted)
	nstest.Must(t, err)
	l := &fuzzLink{tcp: c, conn: c, from: c.LocalAddr().(*net.TCPAddr).AddrPort()}
	if way == toPlain {
		r.plain.Handle(fd, l.from)
	} else {
		r.keyed.Handle(fd, l.from)
	}
	switch way {
	case encrypted:
		l.conn = tls.Client(c, &tls.Config{Certificates: []tls.Certificate{r.cert}, InsecureSkipVerify: true})
	case authentic, sealed:
		mine, err := socket.Detach(c)
		nstest.Must(t, err)
		s, err := r.dial.Open(t.Context(), mine, "", auth.ToServer)
		nstest.Must(t, err)
		l.tcp, err = socket.Conn(s.FD)
		nstest.Must(t, err)
		l.conn, l.mac = l.tcp, s.HeaderKey
	}
	return l
}

// talk says something in pieces, and then its end. It returns what comes back, and the
// error of a link that was reset.
func (l *fuzzLink) talk(data, cuts []byte) ([]byte, error) {
	defer l.tcp.Close()
	_ = l.tcp.SetDeadline(time.Now().Add(20 * time.Second))
	written := make(chan struct{})
	go func() {
		defer close(written)
		for _, n := range cuts {
			if len(data) == 0 {
				break
			}
			piece := data[:min(int(n), len(data))]
			data = data[len(piece):]
			if _, err := l.conn.Write(piece); err != nil {
				return
			}
			runtime.Gosched()
		}
		if len(data) > 0 {
			if _, err := l.conn.Write(data); err != nil {
				return
			}
		}
		if c, ok := l.conn.(*tls.Conn); ok {
			if c.Handshake() != nil || c.CloseWrite() != nil {
				return
			}
		}
		_ = l.tcp.CloseWrite()
	}()
	got, err := io.ReadAll(l.conn)
	if err != nil {
		_ = l.tcp.SetLinger(0)
		_ = l.tcp.Close()
	}
	<-written
	return got, err
}

// check looks for what there should not be.
func (r *fuzzRig) check(t *testing.T) {
	t.Helper()
	r.bad.mu.Lock()
	lines := r.bad.lines
	r.bad.lines = nil
	r.bad.mu.Unlock()
	for _, line := range lines {
		t.Error(line)
	}
	const pipes = 2 * 2 * 16 // what an engine keeps
	now := 0
	for range 4000 {
		if now = nstest.Descriptors(t, os.Getpid()); r.turns < 10 || now <= r.descriptors+pipes {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	switch r.turns++; {
	case r.turns <= 10: // all that opens something once has done so
		r.descriptors = now
	case now > r.descriptors+pipes:
		t.Errorf("%d descriptors, after %d at first", now, r.descriptors)
	}
	if r.turns%5000 == 100 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if r.heap == 0 {
			r.heap = m.HeapAlloc
		}
		if m.HeapAlloc > r.heap+64<<20 {
			t.Errorf("%d MiB of memory, after %d at first", m.HeapAlloc>>20, r.heap>>20)
		}
	}
}
