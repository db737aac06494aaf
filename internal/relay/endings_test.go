package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/poll"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
)

var errTest = errors.New("the test's error")

// told says which function of the caller learns of the end of a flow.
type told struct {
	by  string // the callback
	end End
	err error
}

// bench is a loop that does not run, with one flow in it.
type bench struct {
	w        *workspace
	f        *flow
	peer     int // the other ends of its sockets
	service  int // -1 in a preface
	told     chan told
	freed    chan int // the links that OnFree got
	accepted int      // that was given away
}

// socketPair returns both ends of a TCP connection.
func socketPair(t *testing.T) (dialedEnd, acceptedEnd int) {
	t.Helper()
	l, err := socket.Listen(t.Context(), "127.0.0.1:0", net.KeepAliveConfig{})
	nstest.Must(t, err)
	defer l.Close()
	dialedEnd, err = socket.Connect(netip.AddrPort{}, l.Addr().(*net.TCPAddr).AddrPort(), net.KeepAliveConfig{}, nil)
	nstest.Must(t, err)
	nstest.Must(t, socket.Wait(t.Context(), dialedEnd))
	raw, err := l.SyscallConn()
	nstest.Must(t, err)
	for {
		nstest.Must(t, raw.Control(func(fd uintptr) { acceptedEnd, _, err = socket.Accept(int(fd)) }))
		if !errors.Is(err, unix.EAGAIN) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	nstest.Must(t, err)
	return dialedEnd, acceptedEnd
}

// variant has the conditions of an ending beside stage and event.
type variant struct {
	returns bool            // OnUndelivered is set
	wrote   bool            // payload was written
	said    bool            // the preface has begun
	framed  Framed          // the link
	over    wire.Terminator // that was read from the link
	ended   bool            // the link's direction has ended
	within  bool            // a frame to the link is not written whole
}

// link returns the number of the side that is a link.
func (v variant) link() int {
	return map[Framed]int{AcceptedLink: accepted, DialedLink: dialed}[v.framed]
}

// applies reports whether a flow can be in these conditions at an event of a stage.
func (v variant) applies(s stage, ev event) bool {
	switch {
	case v.said && s != prefacing, v.wrote && s != awaitingStatus, v.returns && s != connecting && s != awaitingStatus:
		return false
	case s == prefacing && v.framed != NoLink, s == awaitingStatus && v.framed != DialedLink, s == leaving && v.framed == NoLink:
		return false
	case (v.over != 0 || v.ended || v.within) && (v.framed == NoLink || s != open && s != awaitingStatus || ev == finished):
		return false
	}
	switch v.over {
	case wire.Ended, wire.Reset:
		return s == open
	case wire.Refusal:
		return s == awaitingStatus && (ev == refused || ev == declined)
	case wire.Bye:
		return s == awaitingStatus && ev == declined
	default:
		return true
	}
}

func variants() (all []variant) {
	both := []bool{false, true}
	for _, returns := range both {
		for _, wrote := range both {
			for _, said := range both {
				for _, framed := range []Framed{NoLink, AcceptedLink, DialedLink} {
					for _, over := range []wire.Terminator{0, wire.Ended, wire.Reset, wire.Refusal, wire.Bye} {
						for _, ended := range both {
							for _, within := range both {
								all = append(all, variant{returns, wrote, said, framed, over, ended, within})
							}
						}
					}
				}
			}
		}
	}
	return all
}

// newBench returns a flow in a stage.
func newBench(t *testing.T, s stage, v variant) *bench {
	t.Helper()
	p, err := poll.New()
	nstest.Must(t, err)
	t.Cleanup(p.Close)
	b := &bench{
		w:       &workspace{life: newLife(nil), poll: p, buf: make([]byte, bufferSize), start: time.Now()},
		service: -1, told: make(chan told, 2), freed: make(chan int, 2), accepted: -1, f: &flow{},
	}
	b.w.life.enter()
	var a int
	b.peer, a = socketPair(t)
	if s == prefacing {
		b.startPreface(a, v)
		nstest.Must(t, b.w.flows.add(b.f, p, accepted, watched))
		return b
	}
	b.startPair(t, a, s, v)
	nstest.Must(t, b.w.flows.add(b.f, p, dialed, watched|writable))
	if s > connecting {
		b.connected(s, v)
	}
	if s == leaving {
		other := brokeEvent(1 - v.link())
		b.w.finish(b.f, other, errTest)
		if by := (<-b.told).by; by != "Done" {
			t.Errorf("%s was called", by)
		}
	}
	return b
}

func (b *bench) startPreface(a int, v variant) {
	give := func(by string) func(context.Context, int) {
		return func(_ context.Context, fd int) {
			b.accepted = fd
			b.told <- told{by: by}
		}
	}
	b.f.startPreface(b.w, &Preface{
		Accepted: a, IdleTimeout: time.Hour, OnIdle: give("OnIdle"),
		OnError: func(err error) { b.told <- told{by: "OnError", err: err} },
	})
	b.f.setup.next = give("HandOver")
	if v.said {
		b.f.setup.said = []byte("x")
	}
}

func (b *bench) startPair(t *testing.T, a int, s stage, v variant) {
	t.Helper()
	pair := Pair{
		Framed: v.framed, UpPrefix: []byte("header"), DownPrefix: []byte("connected"), ConnectTimeout: time.Hour,
		OnFree: func(link int, _ []byte) { b.freed <- link },
		Done:   func(r Result) { b.told <- told{"Done", r.End, r.Err} },
	}
	if s == awaitingStatus {
		pair.OnStatus = func(wire.Status, wire.Ban) error { return nil }
	}
	if v.returns {
		pair.OnUndelivered = func(_ context.Context, u Undelivered) {
			b.accepted = u.Accepted
			b.told <- told{by: "OnUndelivered", err: u.Err}
		}
	}
	b.w.life.pairs.Add(1)
	pair.Dialed, b.service = socketPair(t)
	b.f.side[accepted] = newSide(a, nil, v.framed == AcceptedLink) // as a preface leaves it
	b.f.startPair(b.w, &pair)
}

// connected brings a pair into a stage in which both sides are connected.
func (b *bench) connected(s stage, v variant) {
	f := b.f
	if s == awaitingStatus {
		f.setup.stage = awaitingStatus
	} else {
		f.finishSetup(b.w)
	}
	f.side[accepted].writable, f.side[dialed].writable = true, true
	f.dir[accepted].rest, f.dir[accepted].extra = nil, 0
	f.dir[accepted].sent = v.wrote
	if v.framed == NoLink {
		return
	}
	f.dir[dialed].rest, f.dir[dialed].extra = nil, 0
	to := &f.dir[1-v.link()]
	if v.ended {
		f.side[v.link()].ended, to.eof, to.finished = true, true, !v.within
	}
	if v.within {
		to.rest = []byte("the rest of a frame")
	}
	_, _, _ = f.side[v.link()].frames.in.Decode(readBefore(s, v))
}

// readBefore returns what was read from the link.
func readBefore(s stage, v variant) (b []byte) {
	switch v.over {
	case wire.Refusal:
		return wire.AppendFrame(nil, wire.KindStatus, byte(wire.Refused))
	case wire.Bye:
		return wire.AppendFrame(nil, wire.KindBye)
	default:
	}
	if v.framed == DialedLink && s != awaitingStatus {
		b = wire.AppendFrame(nil, wire.KindStatus, byte(wire.Connected))
	}
	switch v.over {
	case wire.Ended:
		b = wire.AppendFrame(b, wire.KindEnd)
	case wire.Reset:
		b = wire.AppendFrame(b, wire.KindReset)
	default:
	}
	return b
}

// want has the promises of the table, in the words of the interface.
type want struct {
	told
	keeps bool // the accepted socket lives on
	fin   bool // the other ends see FIN
	greet bool // and DownPrefix before
}

func done(e End, err error) want { return want{told: told{"Done", e, err}} }
func greeted(e End) want         { w := done(e, errTest); w.greet = true; return w }
func back(err error) want        { return want{told: told{by: "OnUndelivered", err: err}, keeps: true} }
func given(by string) want       { return want{told: told{by: by}, keeps: true} }
func onError(err error) want     { return want{told: told{by: "OnError", err: err}} }
func lives() want                { return want{keeps: true} }
func whole() want                { return want{told: told{"Done", Finished, nil}, fin: true} }
func nobody() want               { return want{} } // is told, but OnFree

// fate says how a link ends with its pair.
type fate string

const (
	noLink fate = "there is none, or it goes with the accepted socket"
	isLost fate = "it is reset, and OnFree gets -1"
	isFree fate = "OnFree gets it"
	says   fate = "a reset frame goes to the other end, and OnFree gets it"
	asks   fate = "a reset frame goes to the other end, and OnFree gets it after the answer"
)

// promisedLink returns what the interface promises of the link of a flow that ends.
func promisedLink(s stage, ev event, v variant, w want) fate {
	own := ev == acceptedBroke && v.framed == AcceptedLink || ev == dialedBroke && v.framed == DialedLink
	switch {
	case v.framed == NoLink, v.framed == AcceptedLink && w.keeps:
		return noLink
	case ev == finished && (s == open || s == leaving):
		return isFree
	case w.by == "Done" && (ev == cut || w.end == Failed), s == leaving, own && v.over != wire.Reset:
		return isLost
	case s == connecting && w.greet:
		return asks
	case s == connecting, s == awaitingStatus && ev == timedOut, v.over == wire.Bye, v.within:
		return isLost
	case v.ended && v.over == 0: // nothing may be said behind the end
		return isLost
	case v.ended:
		return isFree
	case v.over != 0:
		return says
	}
	return asks
}

// promised returns what the interface promises of an event in a stage. It knows the promises
// and not the table. ok is false if the event does not happen there.
func promised(s stage, ev event, v variant) (w want, ok bool) {
	if s == leaving && ev == closed {
		return lives(), true
	}
	if s == leaving && ev != nothing {
		return nobody(), slices.Contains([]event{finished, acceptedBroke, dialedBroke, timedOut, expired, cut, failed}, ev)
	}
	switch ev {
	case nothing:
		return lives(), true
	case closed:
		if s == prefacing {
			return lives(), true
		}
		return done(Cut, ErrClosed), true
	case cut:
		if s == prefacing {
			return onError(ErrCut), true
		}
		return done(Cut, nil), true
	case failed:
		if s == prefacing {
			return onError(errTest), true
		}
		return done(Failed, errTest), true
	case acceptedBroke:
		if s == prefacing {
			return onError(errTest), true
		}
		return done(AcceptedReset, errTest), true
	case finished:
		return whole(), s == open
	case rejected:
		return onError(errTest), s == prefacing
	case handedOver:
		return given("HandOver"), s == prefacing
	case refused:
		return done(Refused, errTest), s == awaitingStatus
	case connectFailed, declined:
		if ok = ev == connectFailed && s == connecting || ev == declined && s == awaitingStatus; v.returns {
			return back(errTest), ok
		}
		return done(Refused, errTest), ok
	case dialedBroke:
		switch {
		case s == prefacing:
			return want{}, false
		case s == awaitingStatus && v.returns && !v.wrote:
			return back(errTest), true
		case s == awaitingStatus:
			return done(Refused, errTest), true
		case v.framed != NoLink && s == open: // DownPrefix was written
			return done(DialedReset, errTest), true
		}
		return greeted(DialedReset), true
	case expired:
		switch {
		case s != prefacing:
			return lives(), true
		case v.said:
			return onError(ErrExpired), true
		}
		return given("OnIdle"), true
	case timedOut:
		switch {
		case s == prefacing && v.said:
			return onError(ErrTimeout), true
		case s == prefacing:
			return given("OnIdle"), true
		case s == open:
			return done(Idle, nil), true
		case v.returns && (s == connecting || !v.wrote):
			return back(map[stage]error{connecting: ErrTimeout, awaitingStatus: ErrNoStatus}[s]), true
		}
		return done(Refused, map[stage]error{connecting: ErrTimeout, awaitingStatus: ErrNoStatus}[s]), true
	default:
		panic("an event that the test does not know")
	}
}

// TestEndings ends a flow by each event in each stage, and checks who is told what, and what
// the other ends of its sockets see.
func TestEndings(t *testing.T) {
	for s := range stages {
		for ev := range events {
			for _, v := range variants() {
				if v.applies(s, ev) {
					t.Run(fmt.Sprintf("stage %d, event %d, %+v", s, ev, v), func(t *testing.T) { testEnding(t, s, ev, v) })
				}
			}
		}
	}
}

func testEnding(t *testing.T, s stage, ev event, v variant) {
	b := newBench(t, s, v)
	w, possible := promised(s, ev, v)
	cause := errTest
	switch {
	case slices.Contains([]event{finished, closed, cut, timedOut, expired, handedOver, nothing}, ev):
		cause = nil
	case v.over == wire.Reset && ev == brokeEvent(v.link()):
		cause, w.err = ErrLinkReset, ErrLinkReset
	}
	switch { // the impossible is a bug, and costs the flow
	case possible || s == leaving:
	case s == prefacing:
		w = onError(nil)
	default:
		w = done(Failed, nil)
	}
	link := promisedLink(s, ev, v, w)
	if ev == finished && s == open {
		b.pump(t, v)
	}
	b.w.finish(b.f, ev, cause)
	if w == lives() {
		if b.f.ended || s != leaving && b.f.stage() != s || len(b.freed) > 0 {
			t.Fatal("the flow has ended")
		}
		b.w.finish(b.f, cut, nil)
		return
	}
	got := told{}
	if w.by != "" {
		got = <-b.told
	}
	if got.by != w.by || got.end != w.end || possible && !errors.Is(got.err, w.err) || !possible && w.by != "" && got.err == nil {
		t.Errorf("told %+v, want %+v", got, w.told)
	}
	if n := b.w.life.pairs.Load(); n != 0 {
		t.Errorf("%d pairs are left", n)
	}
	b.wantLink(t, s, v, w, link)
	b.w.finish(b.f, ev, cause) // an ended flow does not end again
	b.w.life.live.Wait()
	if n := len(b.told) + len(b.freed); n > 0 {
		t.Errorf("told %d times too often", n)
	}
	if n := b.w.deadlines.Load(); n != 0 {
		t.Errorf("%d deadlines are left", n)
	}
	if len(b.w.flows.all()) > 0 {
		t.Error("the flow is still in the loop")
	}
	if b.service >= 0 && (v.framed != DialedLink) && s != leaving {
		wantEnd(t, "service", b.service, w.fin, "")
	}
	if w.keeps {
		nstest.Must(t, socket.Send(b.accepted, []byte("x")))
		if n, errno := socket.Recv(b.peer, make([]byte, 9)); n != 1 {
			t.Errorf("the accepted socket does not work: %d, %v", n, errno)
		}
		socket.Close(b.accepted)
		socket.Close(b.peer)
		return
	}
	if v.framed != AcceptedLink && s != leaving {
		wantEnd(t, "peer", b.peer, w.fin, w.greeting())
	}
}

func (w want) greeting() string {
	if w.greet {
		return "connected"
	}
	return ""
}

// pump leaves the sides of a pair as pump does when both directions have ended.
func (b *bench) pump(t *testing.T, v variant) {
	t.Helper()
	for s := range b.f.side {
		if v.framed == NoLink || s != v.link() {
			nstest.Must(t, unix.Shutdown(int(b.f.side[s].fd), unix.SHUT_WR)) // that of the others would hide a reset
		}
	}
	if v.framed != NoLink {
		b.f.freeLink(b.w, v.link())
	}
}

// wantLink checks the fate of a link, and what its other end sees.
func (b *bench) wantLink(t *testing.T, s stage, v variant, w want, want fate) {
	t.Helper()
	if want == noLink {
		return
	}
	far := b.peer
	if v.framed == DialedLink {
		far = b.service
	}
	before, reset := w.greeting(), string(wire.AppendFrame(nil, wire.KindReset))
	if v.framed == DialedLink {
		before = ""
	}
	if want == says || want == asks || s == leaving {
		before += reset
	}
	if want == asks {
		if b.f.ended || len(b.freed) > 0 || b.f.stage() != leaving {
			t.Fatal("the link is not waited for")
		}
		if v.framed == DialedLink && s == awaitingStatus {
			nstest.Must(t, socket.Send(far, wire.AppendFrame(nil, wire.KindStatus, byte(wire.Connected))))
		}
		nstest.Must(t, socket.Send(far, []byte(reset)))
		b.f.side[v.link()].readable = true
		_, ev, err := b.f.step(b.w)
		b.w.finish(b.f, ev, err)
	}
	if !b.f.ended {
		t.Fatal("the flow lives on")
	}
	select {
	case link := <-b.freed:
		if (link < 0) != (want == isLost) {
			t.Errorf("OnFree got %d, want: %s", link, want)
		}
		socket.Close(link)
	default:
		t.Errorf("OnFree was not called; want: %s", want)
	}
	wantEnd(t, "link", far, want != isLost, before)
}

// wantEnd checks how one end of a connection ends on loopback, where that is known at once,
// and what it gets before.
func wantEnd(t *testing.T, name string, fd int, fin bool, before string) {
	t.Helper()
	defer socket.Close(fd)
	buf := make([]byte, 99)
	n, errno := socket.Recv(fd, buf)
	if got := string(buf[:max(n, 0)]); got != before {
		t.Errorf("%s: read %q, %v, want %q", name, got, errno, before)
	}
	if before != "" {
		n, errno = socket.Recv(fd, buf)
	}
	if fin && (n != 0 || errno != 0 || socket.Error(fd) != nil) || !fin && errno != unix.ECONNRESET {
		t.Errorf("%s: read %d, %v; want FIN: %v", name, n, errno, fin)
	}
}

// TestLinkIsFreeOnceItsEndIsWritten ends both directions of a link that takes nothing: it is not
// free before it has taken the end frame.
func TestLinkIsFreeOnceItsEndIsWritten(t *testing.T) {
	for _, v := range []variant{{framed: AcceptedLink}, {framed: DialedLink}} {
		b := newBench(t, open, v)
		far, other := b.peer, b.service
		if v.framed == DialedLink {
			far, other = other, far
		}
		s := &b.f.side[v.link()]
		s.writable, s.awaited = false, true
		b.f.side[accepted].readable, b.f.side[dialed].readable = true, true
		end := wire.AppendFrame(nil, wire.KindEnd)
		nstest.Must(t, socket.Send(far, end), unix.Shutdown(other, unix.SHUT_WR))
		for range 3 {
			if _, ev, err := b.f.step(b.w); ev != nothing || len(b.freed) > 0 {
				t.Fatalf("event %d, %v; the link is free: %v", ev, err, len(b.freed) > 0)
			}
			b.f.side[accepted].readable, b.f.side[dialed].readable = true, true
		}
		s.writable = true
		_, ev, err := b.f.step(b.w)
		b.w.finish(b.f, ev, err)
		if len(b.freed) != 1 || ev != finished {
			t.Fatalf("event %d, %v; the link is free: %v", ev, err, len(b.freed) > 0)
		}
		socket.Close(<-b.freed)
		wantEnd(t, "link", far, true, string(end))
		wantEnd(t, "other", other, true, "")
	}
}

// newBusyBench returns an open flow whose dialed link has more than resetBytes under way, and
// the number of bytes that were sent.
func newBusyBench(t *testing.T) (b *bench, sent int) {
	t.Helper()
	b = newBench(t, open, variant{framed: DialedLink})
	s := &b.f.side[dialed]
	nstest.Must(t, unix.SetsockoptInt(b.service, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10))
	nstest.Must(t, unix.SetsockoptInt(int(s.fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<20))
	for ; sent < 4<<20 && s.unacked() <= 2*resetBytes; sent += 16 << 10 {
		nstest.Must(t, socket.Send(int(s.fd), make([]byte, 16<<10)))
	}
	if s.unacked() <= resetBytes {
		t.Skipf("the kernel has taken %d bytes at the far end", sent)
	}
	b.f.meter.moved[accepted].Store(int64(sent))
	return b, sent
}

// TestResetBehindMuch resets a pair with much on the way to the link: a reset frame would wait
// behind it, so the link is lost.
func TestResetBehindMuch(t *testing.T) {
	b, _ := newBusyBench(t)
	b.w.finish(b.f, acceptedBroke, errTest)
	if link := <-b.freed; link != -1 {
		t.Errorf("OnFree got %d", link)
	}
	socket.Close(b.service)
	socket.Close(b.peer)
}

// TestLinkIsNotFreeWithMuchUnderWay ends both directions of a pair while much is on the way to
// a server. Its link is closed in order: another pair might reset it, and all that with it.
func TestLinkIsNotFreeWithMuchUnderWay(t *testing.T) {
	b, sent := newBusyBench(t)
	s := &b.f.side[dialed]
	end := wire.AppendFrame(nil, wire.KindEnd)
	nstest.Must(t, socket.Send(b.service, end), unix.Shutdown(b.peer, unix.SHUT_WR))
	b.f.side[accepted].readable, s.readable = true, true
	for range 3 {
		_, ev, err := b.f.step(b.w)
		b.w.finish(b.f, ev, err)
	}
	if link := <-b.freed; link != -1 {
		t.Fatalf("OnFree got %d", link)
	}
	for got, buf := 0, make([]byte, 64<<10); ; {
		n, err := unix.Read(b.service, buf)
		if err == unix.EAGAIN {
			time.Sleep(time.Millisecond)
			continue
		}
		if got += max(0, n); n <= 0 {
			if err != nil || got < sent+len(end) {
				t.Errorf("%d of %d bytes came, and %v", got, sent+len(end), err)
			}
			break
		}
	}
	socket.Close(b.service)
	socket.Close(b.peer)
}

// TestStatusIsSaidOnce resets the socket of a service whose link takes the status just then.
func TestStatusIsSaidOnce(t *testing.T) {
	b := newBench(t, open, variant{framed: AcceptedLink})
	dir := &b.f.dir[dialed]
	status := wire.AppendFrame(nil, wire.KindStatus, 0)
	*dir = newDirection(bytes.Clone(status))
	socket.Reset(b.service)
	b.f.side[accepted].writable, b.f.side[dialed].readable = true, true
	_, ev, err := b.f.step(b.w)
	b.w.finish(b.f, ev, err)
	want := append(status, wire.AppendFrame(nil, wire.KindReset)...)
	got := make([]byte, 100)
	if n, err := unix.Read(b.peer, got); err != nil || !bytes.Equal(got[:n], want) {
		t.Errorf("the link carries %x, %v; want %x", got[:max(0, n)], err, want)
	}
	socket.Close(b.peer)
}

// TestWrongFrameLosesLink checks that nothing more is said to a server that breaks the rules in
// place of a status.
func TestWrongFrameLosesLink(t *testing.T) {
	b := newBench(t, awaitingStatus, variant{framed: DialedLink})
	b.w.finish(b.f, refused, fmt.Errorf("%w: kind 9", wire.ErrFrame))
	if !b.f.ended || len(b.freed) != 1 || <-b.freed != -1 {
		t.Error("the link is not lost")
	}
	wantEnd(t, "link", b.service, false, "")
	wantEnd(t, "peer", b.peer, false, "")
}
