package relay_test

import (
	"errors"
	"io"
	"runtime"
	"testing"

	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
	"portredirector/internal/wire/wiretest"
)

// resetCases reset an exchange.
var resetCases = map[string]linkCase{
	"the other socket resets": {free: true, act: func(t *testing.T, r *linkRig) {
		resetting(r.other)
		r.wantFar(t, "", wiretest.ErrReset)
		r.wantEnd(t, r.otherReset()) // it does not wait for the answer
		nstest.Must(t, r.far.Reset())
		r.wantFree(t, "")
	}},
	"the other socket resets after data both ways": {free: true, act: func(t *testing.T, r *linkRig) {
		r.talk(t)
		resetting(r.other)
		r.wantFar(t, "", wiretest.ErrReset)
		r.wantEnd(t, r.otherReset())
		nstest.Must(t, second(r.far.Write([]byte("nobody hears it"))), r.far.Reset())
		r.wantFree(t, "")
	}},
	"a reset and an end cross": {free: true, act: func(t *testing.T, r *linkRig) {
		resetting(r.other)
		r.wantFar(t, "", wiretest.ErrReset)
		nstest.Must(t, second(r.far.Write([]byte("nobody hears it"))), r.far.CloseWrite())
		r.wantFree(t, "")
		r.wantEnd(t, r.otherReset())
	}},
	"a reset is behind an end": {free: true, act: func(t *testing.T, r *linkRig) {
		nstest.Must(t, r.far.CloseWrite())
		r.wantOther(t, "", nil)
		resetting(r.other)
		r.wantFar(t, "", wiretest.ErrReset)
		r.wantFree(t, "")
		r.wantEnd(t, r.otherReset())
	}},
	"the far end resets": {free: true, act: func(t *testing.T, r *linkRig) {
		r.talk(t)
		nstest.Must(t, r.far.Reset())
		r.wantOther(t, "", errAReset)
		r.wantFar(t, "", wiretest.ErrReset) // it is answered
		r.wantFree(t, "")
		r.wantEnd(t, r.linkReset())
	}},
	"the far end resets behind data": {free: true, act: func(t *testing.T, r *linkRig) {
		b := wire.AppendFrame(wire.AppendFrame(nil, wire.KindData, []byte("the last word")...), wire.KindReset)
		nstest.Must(t, second(r.far.Conn.Write(b)))
		r.wantOther(t, "the last word", errAReset)
		r.wantFar(t, "", wiretest.ErrReset)
		r.wantFree(t, "")
		r.wantEnd(t, r.linkReset())
	}},
	"the far end resets, and says more": {act: func(t *testing.T, r *linkRig) {
		b := wire.AppendFrame(nil, wire.KindReset)
		nstest.Must(t, second(r.far.Conn.Write(append(b, "the next header"...))))
		r.wantOther(t, "", errAReset)
		r.wantFar(t, "", wiretest.ErrReset)
		r.wantFree(t, "the next header")
		r.wantEnd(t, r.linkReset())
		socket.Reset(r.near.fd) // as its new owner may do
		r.freed <- freed{link: -1}
	}},
	"the far end resets after the other socket has ended": {free: true, act: func(t *testing.T, r *linkRig) {
		nstest.Must(t, r.other.CloseWrite())
		r.wantFar(t, "", nil)
		nstest.Must(t, second(r.far.Write([]byte("x"))), r.far.Reset())
		r.wantOther(t, "x", errAReset)
		r.wantFree(t, "")
		r.wantEnd(t, r.linkReset())
		if n := tryRead(r.far.Conn); n > 0 {
			t.Errorf("%d bytes came behind the end", n)
		}
	}},
	"resets cross": {free: true, act: func(t *testing.T, r *linkRig) {
		r.talk(t)
		resetting(r.other)
		nstest.Must(t, r.far.Reset())
		r.wantFar(t, "", wiretest.ErrReset)
		r.wantFree(t, "")
		<-r.result // either may be first
		if n := tryRead(r.far.Conn); n > 0 {
			t.Errorf("%d bytes came behind the reset", n)
		}
	}},
	"the other socket resets after it has ended": {act: func(t *testing.T, r *linkRig) {
		nstest.Must(t, r.other.CloseWrite())
		r.wantFar(t, "", nil)
		resetting(r.other)
		r.wantEnd(t, r.otherReset())
	}},
	"the other socket resets with much under way to the link": {act: func(t *testing.T, r *linkRig) {
		blocked := r.fill(t)
		resetting(r.other)
		<-blocked
		r.wantEnd(t, r.otherReset())
	}},
	"the far end resets with much under way to it": {act: func(t *testing.T, r *linkRig) {
		blocked := r.fill(t)
		nstest.Must(t, r.far.Reset())
		<-blocked
		r.wantEnd(t, r.linkReset())
	}},
	"the far end resets with much under way from it": {free: true, act: func(t *testing.T, r *linkRig) {
		nstest.Must(t, r.other.SetReadBuffer(16<<10))
		nstest.Must(t, second(r.far.Write(make([]byte, much))), r.far.Reset())
		r.wantFar(t, "", wiretest.ErrReset)
		r.wantFree(t, "")
		r.wantEnd(t, r.linkReset())
		if _, err := io.Copy(io.Discard, r.other); !isReset(err) {
			t.Errorf("the other socket reads %v", err)
		}
	}},
	"the other socket resets within a frame from the link": {free: true, act: func(t *testing.T, r *linkRig) {
		head := wire.AppendHead(nil, wire.KindData, 100)
		nstest.Must(t, second(r.far.Conn.Write(append(head, "beginning"...))))
		wantRead(t, r.other, "beginning")
		resetting(r.other)
		r.wantFar(t, "", wiretest.ErrReset)
		r.wantEnd(t, r.otherReset())
		nstest.Must(t, second(r.far.Conn.Write(make([]byte, 91))), r.far.Reset())
		r.wantFree(t, "")
	}},
	"both sockets are reset": {act: func(_ *testing.T, r *linkRig) {
		resetting(r.other)
		resetting(r.far.Conn)
		<-r.result
		r.gone = true
	}},
	"the link is reset": {act: func(t *testing.T, r *linkRig) {
		r.talk(t)
		resetting(r.far.Conn)
		r.wantOther(t, "", errAReset)
		r.wantEnd(t, r.linkReset())
		r.gone = true
	}},
	"the link ends": {act: func(t *testing.T, r *linkRig) {
		r.talk(t)
		nstest.Must(t, r.far.Conn.CloseWrite())
		r.wantOther(t, "", errAReset)
		r.wantEnd(t, r.linkReset())
	}},
	"the link ends behind the end of the other direction": {act: func(t *testing.T, r *linkRig) {
		nstest.Must(t, r.other.CloseWrite())
		r.wantFar(t, "", nil)
		nstest.Must(t, second(r.far.Write([]byte("x"))), r.far.Conn.CloseWrite())
		r.wantOther(t, "x", errAReset)
		r.wantEnd(t, r.linkReset())
	}},
	"the link ends within a frame": {act: func(t *testing.T, r *linkRig) {
		nstest.Must(t, second(r.far.Conn.Write(append(wire.AppendHead(nil, wire.KindData, 100), 'x'))), r.far.Conn.CloseWrite())
		r.wantOther(t, "x", errAReset)
		r.wantEnd(t, r.linkReset())
	}},
	"a reset is answered by FIN": {act: func(t *testing.T, r *linkRig) {
		resetting(r.other)
		r.wantFar(t, "", wiretest.ErrReset)
		nstest.Must(t, r.far.Conn.CloseWrite())
		r.wantEnd(t, r.otherReset())
	}},
	"a reset is answered by nonsense": {act: func(t *testing.T, r *linkRig) {
		resetting(r.other)
		r.wantFar(t, "", wiretest.ErrReset)
		nstest.Must(t, r.far.Frame(wire.KindHeader, 1, 2, 3))
		r.wantEnd(t, r.otherReset())
	}},
	"a reset is answered behind much that was under way": {free: true, act: func(t *testing.T, r *linkRig) {
		resetting(r.other)
		r.wantFar(t, "", wiretest.ErrReset)
		nstest.Must(t, second(r.far.Write(make([]byte, 4<<20))), r.far.Reset())
		r.wantFree(t, "")
		r.wantEnd(t, r.otherReset())
	}},
	"a reset is answered by a flood": {act: func(t *testing.T, r *linkRig) {
		r.talk(t)
		resetting(r.other)
		r.wantFar(t, "", wiretest.ErrReset)
		r.wantEnd(t, r.otherReset())
		sent, piece := 0, make([]byte, 16<<10)
		for {
			n, err := r.far.Write(piece)
			if sent += n; err != nil {
				break
			}
		}
		if sent > bulk { // buffers included
			t.Errorf("%d bytes went in", sent)
		}
	}},
}

// talk carries a few bytes both ways.
func (r *linkRig) talk(t *testing.T) {
	t.Helper()
	nstest.Must(t, second(r.other.Write([]byte("hello"))), second(r.far.Write([]byte("welcome"))))
	wantRead(t, r.far, "hello")
	wantRead(t, r.other, "welcome")
}

// fill writes to the other socket, until the link takes no more. The channel is closed when the
// writer has ended.
func (r *linkRig) fill(t *testing.T) <-chan struct{} {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(struct{ io.Writer }{r.other}, endless{})
	}()
	r.wantFull(t)
	return ended
}

// wantFull waits until what is on the way to the far end does not grow any more.
func (r *linkRig) wantFull(t *testing.T) {
	t.Helper()
	same, was := 0, 0
	nstest.WaitFor(t, "a full link", func() bool {
		n := available(t, r.far.Conn)
		if same++; n != was || n == 0 {
			same, was = 0, n
		}
		return same == 20
	})
}

// TestUnansweredReset checks that a link is lost whose far end does not answer a reset. All
// links wait together.
func TestUnansweredReset(t *testing.T) {
	fds, goroutines := descriptors(t), runtime.NumGoroutine()
	var rigs []*linkRig
	for _, w := range []way{linked, secured} {
		for _, framed := range []relay.Framed{relay.AcceptedLink, relay.DialedLink} {
			for _, before := range []int{0, 2} {
				r := newLinkRig(t, w, framed)
				for range before {
					r.whole(t)
				}
				r.start(t)
				r.talk(t)
				resetting(r.other)
				r.wantFar(t, "", wiretest.ErrReset)
				r.wantEnd(t, r.otherReset())
				nstest.Must(t, second(r.far.Write([]byte("x"))))
				rigs = append(rigs, r)
			}
		}
	}
	for _, r := range rigs {
		r.wantLost(t)
		r.fds, r.goroutines = 1<<20, 1<<20
		if r == rigs[len(rigs)-1] {
			r.fds, r.goroutines = fds, goroutines
		}
		r.close(t)
	}
}

// refusalCases end by another status than Connected.
var refusalCases = map[string]linkCase{
	"refused": {only: relay.DialedLink, quiet: true, free: true, act: func(t *testing.T, r *linkRig) {
		nstest.Must(t, second(r.other.Write([]byte("hello"))))
		wantRead(t, r.far, "hello")
		nstest.Must(t, r.far.SendStatus(wire.Refused))
		r.wantOther(t, "", errAReset)
		r.wantFar(t, "", wiretest.ErrReset)
		r.wantFree(t, "")
		if res := r.wantEnd(t, relay.Refused); !errors.Is(res.Err, errRefused) {
			t.Errorf("the error is %v", res.Err)
		}
	}},
	"refused after the peer has ended": {only: relay.DialedLink, quiet: true, free: true, act: func(t *testing.T, r *linkRig) {
		nstest.Must(t, second(r.other.Write([]byte("hello"))), r.other.CloseWrite())
		r.wantFar(t, "hello", nil)
		nstest.Must(t, r.far.SendStatus(wire.NoService))
		r.wantOther(t, "", errAReset)
		r.wantFree(t, "")
		r.wantEnd(t, relay.Refused)
	}},
	"refused after the peer was reset": {only: relay.DialedLink, quiet: true, free: true, act: func(t *testing.T, r *linkRig) {
		resetting(r.other)
		r.wantFar(t, "", wiretest.ErrReset)
		r.wantEnd(t, relay.AcceptedReset)
		nstest.Must(t, r.far.SendStatus(wire.NoService))
		r.wantFree(t, "")
	}},
	"bye": {only: relay.DialedLink, quiet: true, act: func(t *testing.T, r *linkRig) {
		nstest.Must(t, r.far.Bye())
		r.wantOther(t, "", errAReset)
		if res := r.wantEnd(t, relay.Refused); !errors.Is(res.Err, relay.ErrUndelivered) {
			t.Errorf("the error is %v", res.Err)
		}
	}},
	"bye after the peer was reset": {only: relay.DialedLink, quiet: true, act: func(t *testing.T, r *linkRig) {
		resetting(r.other)
		r.wantFar(t, "", wiretest.ErrReset)
		r.wantEnd(t, relay.AcceptedReset)
		nstest.Must(t, r.far.Bye())
	}},
	"a status, a byte and a reset at once": {only: relay.DialedLink, quiet: true, free: true, act: func(t *testing.T, r *linkRig) {
		b := wire.AppendFrame(nil, wire.KindStatus, byte(wire.Connected))
		b = wire.AppendFrame(wire.AppendFrame(b, wire.KindData, 'x'), wire.KindReset)
		nstest.Must(t, second(r.far.Conn.Write(b)))
		r.wantOther(t, "x", errAReset)
		r.wantFar(t, "", wiretest.ErrReset)
		r.wantFree(t, "")
		r.wantEnd(t, relay.DialedReset)
	}},
	"all at once": {only: relay.DialedLink, quiet: true, free: true, act: func(t *testing.T, r *linkRig) {
		b := wire.AppendFrame(nil, wire.KindStatus, byte(wire.Connected))
		b = wire.AppendFrame(wire.AppendFrame(b, wire.KindData, 'x'), wire.KindEnd)
		nstest.Must(t, second(r.far.Conn.Write(b)))
		r.wantOther(t, "x", nil)
		nstest.Must(t, second(r.other.Write([]byte("y"))), r.other.CloseWrite())
		r.wantFar(t, "y", nil)
		r.wantFree(t, "")
		r.wantEnd(t, relay.Finished)
	}},
}

// brokenCases break the rules of frames.
func brokenCases() map[string]linkCase {
	cases := map[string]linkCase{}
	add := func(name string, only relay.Framed, quiet bool, b []byte) {
		cases[name] = linkCase{only: only, quiet: quiet, act: func(t *testing.T, r *linkRig) {
			nstest.Must(t, second(r.far.Conn.Write(b)))
			if _, err := io.Copy(io.Discard, r.other); !isReset(err) {
				t.Errorf("the other socket reads %v", err)
			}
			end := r.linkReset()
			if quiet {
				end = relay.Refused
			}
			if res := r.wantEnd(t, end); !errors.Is(res.Err, wire.ErrFrame) {
				t.Errorf("the error is %v", res.Err)
			}
		}}
	}
	frame := func(k wire.Kind, content ...byte) []byte { return wire.AppendFrame(nil, k, content...) }
	for name, b := range map[string][]byte{
		"kind 0": frame(0), "kind 7": frame(7), "kind 255": frame(255, 1), "data of no length": frame(wire.KindData),
		"an end with content": frame(wire.KindEnd, 1), "a reset with content": frame(wire.KindReset, 1),
		"a header within": frame(wire.KindHeader, []byte("the next header")...), "a late bye": frame(wire.KindBye),
		"a status within": frame(wire.KindStatus, 0), "a status of two bytes": frame(wire.KindStatus, 0, 0),
	} {
		add(name, relay.NoLink, false, b)
		add(name+", behind data", relay.NoLink, false, append(frame(wire.KindData, 'd'), b...))
	}
	for name, b := range map[string][]byte{
		"data": frame(wire.KindData, 'x'), "an end": frame(wire.KindEnd), "a reset": frame(wire.KindReset),
		"an unknown status": frame(wire.KindStatus, 9), "a bye with content": frame(wire.KindBye, 1),
		"a status of no length": frame(wire.KindStatus),
	} {
		add(name+" in place of a status", relay.DialedLink, true, b)
	}
	return cases
}
