package relay_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"runtime"
	"testing"
	"time"

	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
)

// freed is a call of OnFree.
type freed struct {
	link int
	said string
}

// linkRig is an engine with one end of a link, whose far end the test plays.
type linkRig struct {
	engine *relay.Engine
	way    way
	framed relay.Framed // AcceptedLink: a server's end
	quiet  bool         // the test itself sends the status
	gone   bool         // the test has reset the link
	near   linkEnd
	far    *farLink

	// Of the current exchange.
	other  *net.TCPConn // the end of the other socket: a server's service, or a client's peer
	freed  chan freed
	result chan relay.Result

	others          []*net.TCPConn // of all exchanges
	fds, goroutines int            // before all
}

func newLinkRig(t *testing.T, w way, framed relay.Framed) *linkRig {
	t.Helper()
	r := &linkRig{way: w, framed: framed, fds: descriptors(t), goroutines: runtime.NumGoroutine()}
	r.engine = newEngine(t, relay.Options{})
	r.near, r.far = w.farLink(t, r.engine, framed == relay.AcceptedLink)
	return r
}

// start starts an exchange.
func (r *linkRig) start(t *testing.T) {
	t.Helper()
	if n := len(r.freed) + len(r.result); n > 0 {
		t.Errorf("the caller was told %d times too often", n)
	}
	free, result := make(chan freed, 2), make(chan relay.Result, 2)
	r.freed, r.result = free, result
	other, otherEnd := tcpPair(t)
	r.other, r.others = other, append(r.others, other)
	p := relay.Pair{
		Framed: r.framed,
		OnFree: func(link int, said []byte) { free <- freed{link, string(said)} },
		Done:   func(res relay.Result) { result <- res },
	}
	r.far.Begin()
	if r.framed == relay.AcceptedLink {
		p.Accepted, p.AcceptedLayer, p.Dialed = r.near.fd, r.near.layer, detach(t, otherEnd)
		p.DownPrefix = wire.AppendFrame(nil, wire.KindStatus, byte(wire.Connected))
		r.engine.Relay(p)
		return
	}
	p.Dialed, p.DialedLayer, p.Accepted = r.near.fd, r.near.layer, detach(t, otherEnd)
	p.UpPrefix, p.OnStatus = []byte("header"), onStatus
	r.engine.Relay(p)
	wantRead(t, r.far.Conn, "header")
	if !r.quiet {
		nstest.Must(t, r.far.SendStatus(wire.Connected))
	}
}

var errRefused = errors.New("refused")

func onStatus(s wire.Status, _ wire.Ban) error {
	if s != wire.Connected {
		return fmt.Errorf("%w: %v", errRefused, s)
	}
	return nil
}

// whole runs an exchange that ends in order.
func (r *linkRig) whole(t *testing.T) {
	t.Helper()
	r.start(t)
	if r.quiet {
		nstest.Must(t, r.far.SendStatus(wire.Connected))
	}
	nstest.Must(t, second(r.other.Write([]byte("one way"))), r.other.CloseWrite())
	nstest.Must(t, second(r.far.Write([]byte("the other way"))), r.far.CloseWrite())
	r.wantFar(t, "one way", nil)
	r.wantOther(t, "the other way", nil)
	r.wantFree(t, "")
	r.wantEnd(t, relay.Finished)
}

// wantFree checks that the link is free, and what was read behind the exchange.
func (r *linkRig) wantFree(t *testing.T, said string) {
	t.Helper()
	select {
	case f := <-r.freed:
		if f.link != r.near.fd {
			t.Fatalf("OnFree got %d, want the link %d", f.link, r.near.fd)
		}
		if f.said != said {
			t.Errorf("OnFree got %q, want %q", f.said, said)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the link is not free")
	}
}

// wantLost checks that the link is lost, and reset.
func (r *linkRig) wantLost(t *testing.T) {
	t.Helper()
	select {
	case f := <-r.freed:
		if f.link != -1 || f.said != "" {
			t.Fatalf("OnFree got %+v, want the loss of the link", f)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the link is not lost")
	}
	r.near.fd = -1
	if !r.gone {
		wantReset(t, r.far.Conn)
	}
}

// wantFar checks what the far end reads to its end: io.EOF is nil.
func (r *linkRig) wantFar(t *testing.T, want string, end error) {
	t.Helper()
	nstest.Must(t, r.far.SetReadDeadline(time.Now().Add(5*time.Second)))
	b, err := io.ReadAll(r.far)
	nstest.Must(t, r.far.SetReadDeadline(time.Time{}))
	if string(b) != want || end == nil && err != nil || !errors.Is(err, end) {
		t.Fatalf("the far end reads %d bytes, %.20q, and %v; want %d and %v", len(b), b, err, len(want), end)
	}
}

// errAReset stands for each error of a connection that was reset.
var errAReset = errors.New("a reset")

// wantOther checks what the other socket reads to its end.
func (r *linkRig) wantOther(t *testing.T, want string, end error) {
	t.Helper()
	nstest.Must(t, r.other.SetReadDeadline(time.Now().Add(5*time.Second)))
	b, err := io.ReadAll(r.other)
	if isReset(err) {
		err = errAReset
	}
	if string(b) != want || end == nil && err != nil || !errors.Is(err, end) {
		t.Fatalf("the other socket reads %d bytes, %.20q, and %v; want %d and %v", len(b), b, err, len(want), end)
	}
}

// wantEnd checks the result.
func (r *linkRig) wantEnd(t *testing.T, end relay.End) relay.Result {
	t.Helper()
	select {
	case res := <-r.result:
		if res.End != end {
			t.Errorf("it ended as %s: %v; want %s", res.End, res.Err, end)
		}
		return res
	case <-time.After(5 * time.Second):
		t.Fatal("Done was not called")
		return relay.Result{}
	}
}

// otherReset and linkReset return the end of a pair whose other socket, or link, was reset.
func (r *linkRig) otherReset() relay.End {
	if r.framed == relay.AcceptedLink {
		return relay.DialedReset
	}
	return relay.AcceptedReset
}

func (r *linkRig) linkReset() relay.End {
	if r.framed == relay.AcceptedLink {
		return relay.AcceptedReset
	}
	return relay.DialedReset
}

// close checks that nothing is left, and that everybody was told once.
func (r *linkRig) close(t *testing.T) {
	t.Helper()
	if r.near.fd >= 0 {
		socket.Reset(r.near.fd)
	}
	_ = r.far.Conn.Close()
	for _, c := range r.others {
		_ = c.Close()
	}
	nstest.Must(t, r.engine.Shutdown(t.Context()))
	nstest.WaitFor(t, "descriptors and goroutines to go", func() bool {
		runtime.GC() // the pipes of net are pooled, and closed when collected
		return descriptors(t) <= r.fds && runtime.NumGoroutine() <= r.goroutines
	})
	if n := len(r.freed) + len(r.result); n > 0 {
		t.Errorf("the caller was told %d times too often", n)
	}
}

// much is more than may be under way at a reset, and less than the kernel takes.
const much = 600 << 10

// linkCase is one exchange. Its link ends free, or lost.
type linkCase struct {
	only  relay.Framed // the kind of the near end; NoLink is both
	quiet bool         // the case itself sends the status
	act   func(t *testing.T, r *linkRig)
	free  bool
}

// TestLinkExchanges ends an exchange in many ways, the first one of a link and the third.
func TestLinkExchanges(t *testing.T) { eachLink(t, testLinkExchanges) }

func testLinkExchanges(t *testing.T, w way) {
	for name, c := range linkCases() {
		for _, framed := range []relay.Framed{relay.AcceptedLink, relay.DialedLink} {
			if c.only != relay.NoLink && c.only != framed {
				continue
			}
			for _, before := range []int{0, 2} {
				t.Run(fmt.Sprintf("%s, kind %d, after %d", name, framed, before), func(t *testing.T) {
					r := newLinkRig(t, w, framed)
					for range before {
						r.whole(t)
					}
					r.quiet = c.quiet
					r.start(t)
					c.act(t, r)
					if r.quiet = false; c.free {
						r.whole(t) // it carries one more
					} else {
						r.wantLost(t)
					}
					r.close(t)
				})
			}
		}
	}
}

func linkCases() map[string]linkCase {
	all := map[string]linkCase{}
	for _, cases := range []map[string]linkCase{orderlyCases, resetCases, refusalCases, brokenCases()} {
		maps.Copy(all, cases)
	}
	return all
}

var orderlyCases = map[string]linkCase{
	"the far end ends first": {free: true, act: func(t *testing.T, r *linkRig) {
		nstest.Must(t, second(r.far.Write([]byte("early"))), r.far.CloseWrite())
		r.wantOther(t, "early", nil)
		nstest.Must(t, second(r.other.Write([]byte("late"))), r.other.CloseWrite())
		r.wantFar(t, "late", nil)
		r.wantFree(t, "")
		r.wantEnd(t, relay.Finished)
	}},
	"the other socket ends first": {free: true, act: func(t *testing.T, r *linkRig) {
		nstest.Must(t, second(r.other.Write([]byte("early"))), r.other.CloseWrite())
		r.wantFar(t, "early", nil)
		nstest.Must(t, second(r.far.Write([]byte("late"))), r.far.CloseWrite())
		r.wantOther(t, "late", nil)
		r.wantFree(t, "")
		r.wantEnd(t, relay.Finished)
	}},
	"nothing is said": {free: true, act: func(t *testing.T, r *linkRig) {
		nstest.Must(t, r.far.CloseWrite(), r.other.CloseWrite())
		r.wantFar(t, "", nil)
		r.wantOther(t, "", nil)
		r.wantFree(t, "")
		r.wantEnd(t, relay.Finished)
	}},
	"byte for byte": {free: true, act: func(t *testing.T, r *linkRig) {
		b := wire.AppendFrame(wire.AppendFrame(wire.AppendFrame(nil, wire.KindData, 'a', 'b'), wire.KindData, 'c'), wire.KindEnd)
		for i := range b {
			nstest.Must(t, second(r.far.Conn.Write(b[i:i+1])))
			time.Sleep(time.Millisecond)
		}
		r.wantOther(t, "abc", nil)
		nstest.Must(t, r.other.CloseWrite())
		r.wantFar(t, "", nil)
		r.wantFree(t, "")
		r.wantEnd(t, relay.Finished)
	}},
	"bytes behind the end": {act: func(t *testing.T, r *linkRig) {
		b := wire.AppendFrame(wire.AppendFrame(nil, wire.KindData, 'x'), wire.KindEnd)
		nstest.Must(t, second(r.far.Conn.Write(append(b, "the next header"...))))
		r.wantOther(t, "x", nil)
		nstest.Must(t, r.other.CloseWrite())
		r.wantFar(t, "", nil)
		r.wantFree(t, "the next header")
		r.wantEnd(t, relay.Finished)
		socket.Reset(r.near.fd) // as its new owner may do
		r.freed <- freed{link: -1}
	}},
	"the link is free while the other socket still has bytes to take": {free: true, act: func(t *testing.T, r *linkRig) {
		slow := r.other
		nstest.Must(t, slow.SetReadBuffer(16<<10), slow.CloseWrite())
		r.wantFar(t, "", nil)
		data := bytes.Repeat([]byte("s"), much)
		nstest.Must(t, second(r.far.Write(data)), r.far.CloseWrite())
		r.wantFree(t, "")
		first := *r
		r.whole(t)
		select {
		case res := <-first.result:
			t.Fatalf("Done was called with bytes under way: %+v", res)
		default:
		}
		first.wantOther(t, string(data), nil)
		first.wantEnd(t, relay.Finished)
	}},
}
