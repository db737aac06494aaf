package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/limit"
	"portredirector/internal/ports"
	"portredirector/internal/server"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
	"portredirector/internal/wire/wiretest"
)

// keyRig is a server that takes links from clients that it knows by key.
type keyRig struct {
	*rig

	own     auth.PrivateKey
	mine    auth.PrivateKey // of the client "one"
	clients atomic.Pointer[auth.Clients]
}

func newKeyRig(t *testing.T) *keyRig {
	t.Helper()
	r := &keyRig{rig: newRig(t), own: auth.NewKey(), mine: auth.NewKey()}
	var err error
	r.server.Secure, err = auth.AcceptWithKey(r.own, true)
	nstest.Must(t, err)
	r.know(&auth.Client{Name: "one", Key: r.mine.Public()})
	r.server.Clients = func() auth.Clients { return *r.clients.Load() }
	return r
}

// know makes these the clients of the server.
func (r *keyRig) know(all ...*auth.Client) {
	cs := make(auth.Clients)
	for _, c := range all {
		cs[c.Key] = c
	}
	r.clients.Store(&cs)
}

// link is a client's end of one that the server is sure of.
type link struct {
	*wiretest.End

	session *auth.Session
}

// connectAs opens a link with a key.
func (r *keyRig) connectAs(t *testing.T, own auth.PrivateKey, only bool) (*link, error) {
	t.Helper()
	return r.over(t, r.open(t, nil), own, only)
}

// over makes sure of both ends of a connection.
func (r *keyRig) over(t *testing.T, c *net.TCPConn, own auth.PrivateKey, only bool) (*link, error) {
	t.Helper()
	d, err := auth.DialWithKey(own, []auth.PublicKey{r.own.Public()}, only)
	nstest.Must(t, err)
	fd, err := socket.Detach(c)
	nstest.Must(t, err)
	s, err := d.Open(t.Context(), fd, "", auth.ToServer)
	if err != nil {
		return nil, err
	}
	l := &link{session: s}
	if s.Conn == nil {
		plain, err := socket.Conn(s.FD)
		nstest.Must(t, err)
		t.Cleanup(func() { _ = plain.Close() })
		_ = plain.SetReadDeadline(time.Now().Add(10 * time.Second))
		l.End = wiretest.Client(plain)
		l.Key = s.HeaderKey
		return l, nil
	}
	t.Cleanup(func() { socket.Close(s.FD) })
	l.End = wiretest.Client(waiting{layer: s.Conn})
	return l, nil
}

// mustConnect does so with the key that the server knows.
func (r *keyRig) mustConnect(t *testing.T, only bool) *link {
	t.Helper()
	l, err := r.connectAs(t, r.mine, only)
	nstest.Must(t, err)
	return l
}

// waiting is an encrypted link whose Read waits.
type waiting struct {
	net.Conn // is nil

	layer *auth.Conn
}

func (w waiting) Write(b []byte) (int, error) { return w.layer.Write(b) }

func (w waiting) Read(b []byte) (int, error) {
	for range 10_000 {
		n, err := w.layer.Read(b)
		if n > 0 {
			return n, nil
		}
		if !errors.Is(err, syscall.EAGAIN) {
			return 0, err
		}
		time.Sleep(time.Millisecond)
	}
	return 0, context.DeadlineExceeded
}

// alive reports whether the link has neither ended nor said anything.
func (l *link) alive() bool {
	if l.session.Conn == nil {
		_ = l.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, err := l.Conn.Read(make([]byte, 1))
		_ = l.SetReadDeadline(time.Now().Add(10 * time.Second))
		return errors.Is(err, os.ErrDeadlineExceeded)
	}
	n, err := l.session.Conn.Read(make([]byte, 1))
	return n == 0 && errors.Is(err, syscall.EAGAIN)
}

// header returns the header of the exchange with this number, which is sealed if the link needs that.
func (l *link) header(t *testing.T, h wire.Header, number uint64) []byte {
	t.Helper()
	b := encode(t, h, wire.Native)
	if l.Key != nil {
		b = wire.Seal(b, l.Key, number)
	}
	return b
}

// wantRefusal wants a status that ends the exchange, and not the link.
func (l *link) wantRefusal(t *testing.T, want wire.Status) {
	t.Helper()
	wantStatus(t, l.End, want)
	nstest.Must(t, l.CloseWrite())
	say(t, l.End, wire.Header{Local: true, Answer: true}, "")
	wantStatus(t, l.End, wire.Connected)
}

// wantBye wants a bye and the end of the link.
func (l *link) wantBye(t *testing.T) {
	t.Helper()
	if got, err := io.ReadAll(l.Conn); err != nil || string(got) != bye {
		t.Errorf("got %q, %v, want %q", got, err, bye)
	}
}

// wantRefused wants what the server has counted.
func (r *rig) wantRefused(t *testing.T, want server.Refused) {
	t.Helper()
	for range 1000 {
		if r.server.Refused() == want {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("refused: %+v, want %+v", r.server.Refused(), want)
}

// noService wants that no service was dialed.
func (r *rig) noService(t *testing.T) {
	t.Helper()
	select {
	case p := <-r.service.peers:
		t.Errorf("the service was dialed from %s", p)
	default:
	}
}

// bothKinds runs a test with links that are encrypted, and that are only authenticated.
func bothKinds(t *testing.T, test func(t *testing.T, only bool)) {
	t.Helper()
	t.Run("encrypted", func(t *testing.T) { test(t, false) })
	t.Run("authenticated", func(t *testing.T) { test(t, true) })
}

// TestKnownClient: it is served as without keys, in any number of pieces.
func TestKnownClient(t *testing.T) {
	bothKinds(t, func(t *testing.T, only bool) {
		r := newKeyRig(t)
		for i, size := range []int{1, 7, 1000} {
			l := r.mustConnect(t, only)
			l.Conn = pieces{l.Conn, size}
			for j := range uint16(10) {
				h := to(80)
				h.Source = netip.AddrPortFrom(claim.Addr(), 4444+10*uint16(i)+j)
				say(t, l.End, h, "hello")
				r.wantPeer(t, h.Source)
				wantEcho(t, l.End, "hello")
				finish(t, l.End)
			}
		}
		r.wantRefused(t, server.Refused{})
	})
}

// TestForeignClient: a TLS client that is none of ours may have a key, too, and speaks the
// PROXY protocol.
func TestForeignClient(t *testing.T) {
	r := newKeyRig(t)
	c := tls.Client(r.open(t, nil), &tls.Config{Certificates: []tls.Certificate{certificate(t, r.mine)}, InsecureSkipVerify: true})
	_, err := c.Write(append(encode(t, to(80), wire.V1), "hello"...))
	nstest.Must(t, err)
	nstest.Must(t, c.CloseWrite())
	if got := <-r.service.peers; got != claim.String() {
		t.Errorf("the service saw %s", got)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
}

// certificate is one that says nothing but the key.
func certificate(t testing.TB, k auth.PrivateKey) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(nil, template, template, k.PrivateKey.Public(), k.PrivateKey)
	nstest.Must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k.PrivateKey}
}

func TestUnknownKey(t *testing.T) {
	bothKinds(t, func(t *testing.T, only bool) {
		r := newKeyRig(t)
		for range 3 {
			_, err := r.connectAs(t, auth.NewKey(), only)
			if refusal, ok := errors.AsType[auth.Refusal](err); !ok || wire.Status(refusal) != wire.NotAuthorized {
				t.Errorf("got %v", err)
			}
		}
		r.wantRefused(t, server.Refused{Authorization: 3})
	})
}

// TestUnproved: a header in plain is refused, before anything else is looked at.
func TestUnproved(t *testing.T) {
	for name, h := range map[string]wire.Header{"a peer": to(80), "no service": to(81), "nobody": {Local: true}} {
		t.Run(name, func(t *testing.T) {
			r := newKeyRig(t)
			l := r.connect(t)
			for range 2 {
				say(t, l, h, "hello")
				wantStatus(t, l, wire.NotAuthorized)
				nstest.Must(t, l.CloseWrite())
			}
			for _, form := range []wire.Form{wire.V2, wire.V1} {
				c := r.open(t, encode(t, h, form))
				if got, err := io.ReadAll(c); err == nil || len(got) != 0 {
					t.Errorf("%s: got %q, %v, want a reset", form, got, err)
				}
			}
			r.wantRefused(t, server.Refused{Authorization: 4})
			r.noService(t)
			if n := len(r.server.Track.Ended()); n > 0 {
				t.Errorf("strangers have made %d records", n)
			}
		})
	}
}

// TestManyLeaving: the number of links whose client has not confirmed a refusal is bounded.
func TestManyLeaving(t *testing.T) {
	r := newKeyRig(t)
	r.server.Leaving.MostEach = 2
	nstest.WaitFor(t, "one too many", func() bool {
		l := r.connect(t)
		say(t, l, to(80), "") // and it does not end that
		wantStatus(t, l, wire.NotAuthorized)
		if n := r.server.Leaving.Counts().Waiting; n > 2 {
			t.Errorf("there are %d", n)
		}
		return r.server.Leaving.Counts().Each > 0
	})
}

// TestHelloWithoutKeys: a server that has none does not answer.
func TestHelloWithoutKeys(t *testing.T) {
	r := newKeyRig(t)
	r.server.Secure, r.server.Clients = nil, nil
	_, err := r.connectAs(t, r.mine, false)
	if err == nil {
		t.Error("it is served")
	}
	r.wantRefused(t, server.Refused{Header: 1})
}

// TestRights: a client may do what its line says.
func TestRights(t *testing.T) {
	bothKinds(t, func(t *testing.T, only bool) {
		for name, tt := range map[string]struct {
			client auth.Client
			want   wire.Status
			count  server.Refused
		}{
			"all":             {auth.Client{}, wire.Connected, server.Refused{}},
			"its port":        {auth.Client{Ports: []ports.Range{{First: 1, Last: 2}, {First: 80, Last: 80}}}, wire.Connected, server.Refused{}},
			"another port":    {auth.Client{Ports: []ports.Range{{First: 1, Last: 79}, {First: 81, Last: 65535}}}, wire.NotAuthorized, server.Refused{Authorization: 1}},
			"its claim":       {auth.Client{Claims: prefixes("10.0.0.0/8", "127.0.0.77/32")}, wire.Connected, server.Refused{}},
			"another's claim": {auth.Client{Claims: prefixes("127.0.0.0/26", "::/0")}, wire.ClaimDenied, server.Refused{Claim: 1}},
			"neither":         {auth.Client{Ports: []ports.Range{{First: 1, Last: 1}}, Claims: prefixes("::/0")}, wire.NotAuthorized, server.Refused{Authorization: 1}},
		} {
			t.Run(name, func(t *testing.T) {
				r := newKeyRig(t)
				c := tt.client
				c.Name, c.Key = "one", r.mine.Public()
				r.know(&c, &auth.Client{Name: "two", Key: auth.NewKey().Public()}) // who may do everything
				l := r.mustConnect(t, only)
				say(t, l.End, to(80), "hello")
				if tt.want == wire.Connected {
					<-r.service.peers
					wantEcho(t, l.End, "hello")
				} else {
					l.wantRefusal(t, tt.want)
					r.noService(t)
				}
				r.wantRefused(t, tt.count)
			})
		}
	})
}

func prefixes(list ...string) (all []netip.Prefix) {
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

// TestKeyIsTakenAway: a link that was opened before is of no use then.
func TestKeyIsTakenAway(t *testing.T) {
	bothKinds(t, func(t *testing.T, only bool) {
		r := newKeyRig(t)
		l, used := r.mustConnect(t, only), r.mustConnect(t, only)
		say(t, used.End, to(80), "hello")
		wantEcho(t, used.End, "hello")
		finish(t, used.End)
		<-r.service.peers
		r.know()
		for _, l := range []*link{l, used} {
			say(t, l.End, to(80), "hello")
			l.wantRefusal(t, wire.NotAuthorized)
		}
		r.noService(t)
		r.wantRefused(t, server.Refused{Authorization: 2})
	})
}

// TestSeal: on a link that is only authenticated a header that another has made, or
// changed, is none.
func TestSeal(t *testing.T) {
	for name, forge := range map[string]func(t *testing.T, l, other *link) []byte{
		"none":                   func(t *testing.T, _, _ *link) []byte { return encode(t, to(80), wire.Native) },
		"none, v2":               func(t *testing.T, _, _ *link) []byte { return encode(t, to(80), wire.V2) },
		"none, v1":               func(t *testing.T, _, _ *link) []byte { return encode(t, to(80), wire.V1) },
		"none, nobody":           func(t *testing.T, _, _ *link) []byte { return encode(t, wire.Header{Local: true}, wire.V1) },
		"that of another link":   func(t *testing.T, _, other *link) []byte { return other.header(t, to(80), 0) },
		"that of another header": func(t *testing.T, l, _ *link) []byte { return resealed(t, l) },
		"that of a later header": func(t *testing.T, l, _ *link) []byte { return l.header(t, to(80), 1) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newKeyRig(t)
			l, other := r.mustConnect(t, true), r.mustConnect(t, true)
			_, err := l.Conn.Write(append(forge(t, l, other), "hello"...))
			nstest.Must(t, err)
			if got, err := io.ReadAll(l.Conn); err == nil || len(got) != 0 {
				t.Errorf("got %q, %v, want a reset", got, err)
			}
			r.noService(t)
			r.wantRefused(t, server.Refused{Seal: 1})
		})
	}
}

// TestSealOfLaterHeaders replays, skips and swaps the headers of a link that has carried some.
func TestSealOfLaterHeaders(t *testing.T) {
	for name, number := range map[string]uint64{"of the first": 0, "of the last": 2, "of the next but one": 4} {
		t.Run(name, func(t *testing.T) {
			r := newKeyRig(t)
			l := r.mustConnect(t, true)
			for range 3 {
				say(t, l.End, to(80), "hello")
				wantEcho(t, l.End, "hello")
				finish(t, l.End)
				<-r.service.peers
			}
			_, err := l.Conn.Write(wire.AppendFrame(nil, wire.KindHeader, l.header(t, to(80), number)...))
			nstest.Must(t, err)
			if got, err := io.ReadAll(l.Conn); err == nil || len(got) != 0 {
				t.Errorf("got %q, %v, want a reset", got, err)
			}
			r.noService(t)
			r.wantRefused(t, server.Refused{Seal: 1})
		})
	}
}

// resealed is a header whose id is another one than that of its seal, and whose checksum is
// right: whoever changes it on the way can do that much.
func resealed(t *testing.T, l *link) []byte {
	t.Helper()
	const tail = 3 + 32 // the seal's TLV
	h := to(80)
	mine := l.header(t, h, 0)
	h.ID = wire.NewID()
	b := l.header(t, h, 0)
	copy(b[len(b)-tail:], mine[len(mine)-tail:])
	checksum := bytes.Index(b, []byte{3, 0, 4}) + 3
	clear(b[checksum : checksum+4])
	binary.BigEndian.PutUint32(b[checksum:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// TestManyKnown: of the links of one key that say nothing the oldest ends, and none of
// another key, nor for the sake of those that nobody knows.
func TestManyKnown(t *testing.T) {
	bothKinds(t, func(t *testing.T, only bool) {
		r := newKeyRig(t)
		two := auth.NewKey()
		r.know(&auth.Client{Name: "one", Key: r.mine.Public()}, &auth.Client{Name: "two", Key: two.Public()})
		r.server.Known = limit.Oldest[server.Origin]{Most: 100, MostEach: 3}
		r.server.Unfinished = limit.Oldest[server.Origin]{Most: 2, MostEach: 2}
		others, err := r.connectAs(t, two, only)
		nstest.Must(t, err)
		var links []*link
		for range 3 {
			links = append(links, r.mustConnect(t, only))
		}
		for range 10 {
			r.open(t, nil) // strangers
		}
		r.wantRefused(t, server.Refused{Unfinished: 8})
		for i, l := range append(links, others) {
			if !l.alive() {
				t.Errorf("link %d has ended for strangers", i)
			}
		}
		fourth := r.mustConnect(t, only) // for which a stranger has gone, too
		links[0].wantBye(t)
		for i, l := range append(links[1:], others, fourth) {
			if !l.alive() {
				t.Errorf("link %d has ended", i)
			}
		}
		r.wantRefused(t, server.Refused{Unfinished: 8 + 2})
		// One that has spoken is not counted any more.
		say(t, fourth.End, to(80), "")
		<-r.service.peers
		r.mustConnect(t, only)
		r.wantRefused(t, server.Refused{Unfinished: 8 + 2})
	})
}

// hello is the beginning of one that never ends.
const hello = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"

// TestManyHandshakes: of too many the oldest ends.
func TestManyHandshakes(t *testing.T) {
	for name, bound := range map[string]struct{ most, each int }{"in all": {2, 0}, "each client": {0, 2}} {
		t.Run(name, func(t *testing.T) {
			r := newKeyRig(t)
			r.server.Handshakes.Most, r.server.Handshakes.MostEach = bound.most, bound.each
			var links []*net.TCPConn
			for i := range 4 {
				links = append(links, r.open(t, []byte(hello)))
				nstest.WaitFor(t, "handshake", func() bool {
					return r.server.Handshakes.Counts().Waiting == min(i+1, 2) && r.server.Unfinished.Counts().Waiting == 0
				})
				r.wantRefused(t, server.Refused{Handshakes: uint64(max(0, i-1))})
			}
			for _, l := range links[:2] {
				if n, err := l.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("read %d, %v", n, err)
				}
			}
			for _, l := range links[2:] {
				wantAlive(t, l)
			}
			l := r.mustConnect(t, false) // in place of the third
			wantAlive(t, links[3])
			if !l.alive() {
				t.Error("the last one has ended")
			}
		})
	}
}

// TestNoProof: a handshake may not take for ever, and who does not begin one neither.
func TestNoProof(t *testing.T) {
	r := newKeyRig(t)
	r.server.HeaderTimeout = 50 * time.Millisecond
	for _, said := range []string{"", "\x16", hello} {
		c := r.open(t, []byte(said))
		if got, err := io.ReadAll(c); len(got) != 0 && err == nil {
			t.Errorf("%q: got %q, %v", said, got, err)
		}
	}
	r.wantRefused(t, server.Refused{Header: 1, Proof: 1})
	// What is known may be silent for longer.
	r.server.HeaderTimeout = 10 * time.Second
	l := r.mustConnect(t, false)
	if !l.alive() {
		t.Error("it has ended")
	}
}

// TestDrainBeginsAmidAHandshake: it is refused by a status, and the drain ends.
func TestDrainBeginsAmidAHandshake(t *testing.T) {
	bothKinds(t, func(t *testing.T, only bool) {
		r := newKeyRig(t)
		// The client's end of the link is connected to us, and we to the server.
		front, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		nstest.Must(t, err)
		defer front.Close()
		near, err := net.DialTCP("tcp", nil, front.Addr().(*net.TCPAddr))
		nstest.Must(t, err)
		client, err := front.AcceptTCP()
		nstest.Must(t, err)
		defer client.Close()
		back := r.open(t, nil)
		opened := make(chan error, 1)
		go func() {
			_, err := r.over(t, near, r.mine, only)
			opened <- err
		}()
		b := make([]byte, 64<<10)
		n, err := client.Read(b)
		nstest.Must(t, err)
		_, err = back.Write(b[:n])
		nstest.Must(t, err)
		nstest.WaitFor(t, "handshake", func() bool { return r.server.Handshakes.Counts().Waiting == 1 })
		ended := make(chan error, 1)
		go func() { ended <- r.server.Relay.Shutdown(context.Background()) }()
		nstest.WaitFor(t, "drain", r.server.Relay.Draining)
		go func() { _, _ = io.Copy(client, back) }()
		go func() { _, _ = io.Copy(back, client) }()
		if refusal, ok := errors.AsType[auth.Refusal](<-opened); !ok || wire.Status(refusal) != wire.Draining {
			t.Errorf("got %v", refusal)
		}
		nstest.Must(t, <-ended)
		r.wantRefused(t, server.Refused{})
	})
}

// TestDrainEndsWhatIsKnown: links that say nothing hold up nobody, and one that was
// stuck in a handshake is cut.
func TestDrainEndsWhatIsKnown(t *testing.T) {
	bothKinds(t, func(t *testing.T, only bool) {
		r := newKeyRig(t)
		l, late := r.mustConnect(t, only), r.mustConnect(t, only)
		stuck := r.open(t, []byte(hello))
		nstest.WaitFor(t, "handshake", func() bool { return r.server.Handshakes.Counts().Waiting == 1 })
		ctx, cut := context.WithCancel(t.Context())
		defer cut()
		ended := make(chan error, 1)
		go func() { ended <- r.server.Relay.Shutdown(ctx) }()
		nstest.WaitFor(t, "drain", r.server.Relay.Draining)
		say(t, late.End, to(80), "hello")
		wantStatus(t, late.End, wire.Draining)
		nstest.Must(t, late.CloseWrite())
		late.wantBye(t)
		l.wantBye(t)
		cut()
		nstest.Must(t, <-ended)
		if n, err := stuck.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("read %d, %v", n, err)
		}
		r.noService(t)
	})
}

// TestHealthCheckOfAKnownClient: it is answered, and needs no right to any port.
func TestHealthCheckOfAKnownClient(t *testing.T) {
	bothKinds(t, func(t *testing.T, only bool) {
		r := newKeyRig(t)
		l := r.mustConnect(t, only)
		for range 3 {
			say(t, l.End, wire.Header{Local: true, Answer: true}, "")
			wantStatus(t, l.End, wire.Connected)
		}
	})
}

// TestAltered: an encrypted link that somebody changes ends, and reaches no service.
func TestAltered(t *testing.T) {
	r := newKeyRig(t)
	l := r.mustConnect(t, false)
	nstest.Must(t, socket.Send(l.session.FD, append([]byte{23, 3, 3, 0, 40}, make([]byte, 40)...)))
	if got, err := io.ReadAll(l.Conn); err == nil || len(got) != 0 {
		t.Errorf("got %q, %v, want a reset", got, err)
	}
	r.noService(t)
}
