package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
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
	accepted int // that was given away
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
	returns bool // OnUndelivered is set
	wrote   bool // payload was written
	said    bool // the preface has begun
}

// newBench returns a flow in a stage.
func newBench(t *testing.T, s stage, v variant) *bench {
	t.Helper()
	p, err := newPoller()
	nstest.Must(t, err)
	t.Cleanup(p.close)
	b := &bench{
		w:       &workspace{life: newLife(nil), poll: p, buf: make([]byte, bufferSize), start: time.Now()},
		service: -1, told: make(chan told, 2), accepted: -1, f: &flow{},
	}
	b.w.life.enter()
	var a int
	b.peer, a = socketPair(t)
	give := func(by string) func(context.Context, int) {
		return func(_ context.Context, fd int) {
			b.accepted = fd
			b.told <- told{by: by}
		}
	}
	if s == prefacing {
		b.f.startPreface(b.w, &Preface{
			Accepted: a, IdleTimeout: time.Hour, OnIdle: give("OnIdle"),
			OnError: func(err error) { b.told <- told{by: "OnError", err: err} },
		})
		b.f.setup.next = give("HandOver")
		if v.said {
			b.f.setup.said = []byte("x")
		}
		nstest.Must(t, b.w.flows.add(b.f, p, accepted, watched))
		return b
	}
	pair := Pair{
		DownPrefix: []byte("connected"), ConnectTimeout: time.Hour,
		OnStatus: func(byte) error { return nil },
		Done:     func(r Result) { b.told <- told{"Done", r.End, r.Err} },
	}
	if v.returns {
		pair.OnUndelivered = func(_ context.Context, u Undelivered) {
			b.accepted = u.Accepted
			b.told <- told{by: "OnUndelivered", err: u.Err}
		}
	}
	b.w.life.pairs.Add(1)
	pair.Dialed, b.service = socketPair(t)
	b.f.side[accepted] = side{fd: a}
	b.f.startPair(b.w, &pair)
	nstest.Must(t, b.w.flows.add(b.f, p, dialed, watched|writable))
	switch s {
	case awaitingStatus:
		b.f.setup.stage = awaitingStatus
	case open:
		b.f.finishSetup(b.w)
	default:
	}
	if v.wrote {
		b.f.meter.moved[accepted].Add(1)
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
func variants() (all []variant) {
	for _, returns := range []bool{false, true} {
		for _, wrote := range []bool{false, true} {
			for _, said := range []bool{false, true} {
				all = append(all, variant{returns, wrote, said})
			}
		}
	}
	return all
}

// promised returns what the interface promises of an event in a stage. It knows the promises
// and not the table. ok is false if the event does not happen there.
func promised(s stage, ev event, v variant) (w want, ok bool) {
	switch ev {
	case nothing:
		return lives(), true
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
				t.Run(fmt.Sprintf("stage %d, event %d, %+v", s, ev, v), func(t *testing.T) { testEnding(t, s, ev, v) })
			}
		}
	}
}

func testEnding(t *testing.T, s stage, ev event, v variant) {
	b := newBench(t, s, v)
	w, possible := promised(s, ev, v)
	cause := errTest
	if slices.Contains([]event{finished, cut, timedOut, expired, handedOver, nothing}, ev) {
		cause = nil
	}
	if !possible { // it is a bug, and costs the flow
		w = done(Failed, nil)
		if s == prefacing {
			w = onError(nil)
		}
	}
	if ev == finished && possible {
		for s := range b.f.side { // as pump leaves them; that of the others would hide a reset
			nstest.Must(t, unix.Shutdown(b.f.side[s].fd, unix.SHUT_WR))
		}
	}
	b.w.finish(b.f, ev, cause)
	b.w.finish(b.f, ev, cause) // an ended flow does not end again
	if w.by == "" {
		if b.f.ended {
			t.Fatal("the flow has ended")
		}
		b.w.finish(b.f, cut, nil)
		return
	}
	b.w.life.live.Wait()
	got := <-b.told
	if len(b.told) > 0 {
		t.Errorf("told twice: %+v, %+v", got, <-b.told)
	}
	if got.by != w.by || got.end != w.end || possible && !errors.Is(got.err, w.err) || !possible && got.err == nil {
		t.Errorf("told %+v, want %+v", got, w.told)
	}
	if n := b.w.life.pairs.Load(); n != 0 {
		t.Errorf("%d pairs are left", n)
	}
	if n := b.w.deadlines.Load(); n != 0 {
		t.Errorf("%d deadlines are left", n)
	}
	if len(b.w.flows.all()) > 0 {
		t.Error("the flow is still in the loop")
	}
	if b.service >= 0 {
		wantEnd(t, "service", b.service, w.fin, false)
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
	wantEnd(t, "peer", b.peer, w.fin, w.greet)
}

// wantEnd checks how one end of a connection ends on loopback, where that is known at once.
func wantEnd(t *testing.T, name string, fd int, fin, greet bool) {
	t.Helper()
	defer socket.Close(fd)
	buf := make([]byte, 99)
	n, errno := socket.Recv(fd, buf)
	if greet != (errno == 0 && n > 0) {
		t.Errorf("%s: read %q, %v", name, buf[:max(n, 0)], errno)
	}
	if greet {
		n, errno = socket.Recv(fd, buf)
	}
	if fin && (n != 0 || errno != 0 || socket.Error(fd) != nil) || !fin && errno != unix.ECONNRESET {
		t.Errorf("%s: read %d, %v; want FIN: %v", name, n, errno, fin)
	}
}
