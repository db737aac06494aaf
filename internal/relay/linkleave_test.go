package relay_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
)

// hoarder is a layer that takes all that its socket has, and gives away a byte at a time.
type hoarder struct {
	fd  int
	has []byte
}

func (h *hoarder) Read(b []byte) (int, error) {
	if len(h.has) == 0 {
		buf := make([]byte, 1<<10)
		n, errno := socket.Recv(h.fd, buf)
		switch {
		case errno != 0:
			return 0, errno
		case n == 0:
			return 0, io.EOF
		}
		h.has = buf[:n]
	}
	n := copy(b[:1], h.has)
	h.has = h.has[n:]
	return n, nil
}

func (h *hoarder) Write(b []byte) (int, error) { return len(b), socket.Send(h.fd, b) }
func (h *hoarder) Flush() error                { return nil }
func (h *hoarder) CloseWrite() error           { return unix.Shutdown(h.fd, unix.SHUT_WR) }

// TestLayerKeepsNextHeader checks that a header is heard which a layer has read together with
// the end of the exchange before.
func TestLayerKeepsNextHeader(t *testing.T) {
	engine := newEngine(t, relay.Options{Loops: 1})
	far, near := tcpPair(t)
	defer far.Close()
	layer := &hoarder{fd: detach(t, near)}
	heard := make(chan string, 100)
	engine.Leave(relay.Leaving{Accepted: layer.fd, Layer: layer, OnFree: func(link int, said []byte) {
		engine.ReadPreface(relay.Preface{
			Accepted: link, Layer: layer, Said: said,
			OnData:  func(said []byte) (relay.Next, error) { heard <- string(said); return relay.Next{}, nil },
			OnError: func(error) {},
		})
	}})
	nstest.Must(t, second(far.Write(append(wire.AppendFrame(nil, wire.KindEnd), "next"...))))
	for {
		select {
		case said := <-heard:
			if said == "next" {
				return
			}
		case <-time.After(5 * time.Second):
			t.Fatal("the next header is not heard")
		}
	}
}

// TestLeave checks that a link whose exchange was ended by a status is given away when the far
// end has ended the exchange, and lost in each other case.
func TestLeave(t *testing.T) { eachLink(t, testLeave) }

func testLeave(t *testing.T, w way) {
	end, data := wire.AppendFrame(nil, wire.KindEnd), wire.AppendFrame(nil, wire.KindData, []byte("unheard")...)
	for name, tt := range map[string]struct {
		said []byte // was read before
		act  func(t *testing.T, far *farLink, p relay.Pending, e *relay.Engine)
		want freed
	}{
		"ended before": {said: append(bytes.Clone(data), end...)},
		"ended before, and more": {
			said: append(append(bytes.Clone(data), end...), "next"...), want: freed{said: "next"},
		},
		"ended": {act: func(t *testing.T, far *farLink, _ relay.Pending, _ *relay.Engine) {
			nstest.Must(t, second(far.Write([]byte("unheard"))), far.CloseWrite())
		}},
		"ended in two parts": {said: end[:2], act: func(t *testing.T, far *farLink, _ relay.Pending, _ *relay.Engine) {
			nstest.Must(t, second(far.Conn.Write(end[2:])))
		}},
		"reset": {act: func(t *testing.T, far *farLink, _ relay.Pending, _ *relay.Engine) {
			nstest.Must(t, far.Reset())
		}},
		"FIN": {want: freed{link: -1}, act: func(t *testing.T, far *farLink, _ relay.Pending, _ *relay.Engine) {
			nstest.Must(t, far.Conn.CloseWrite())
		}},
		"RST": {want: freed{link: -1}, act: func(_ *testing.T, far *farLink, _ relay.Pending, _ *relay.Engine) {
			resetting(far.Conn)
		}},
		"nonsense":        {said: []byte("nonsense"), want: freed{link: -1}},
		"a second header": {said: wire.AppendFrame(nil, wire.KindHeader, 1), want: freed{link: -1}},
		"expired": {want: freed{link: -1}, act: func(_ *testing.T, _ *farLink, p relay.Pending, _ *relay.Engine) {
			p.Expire()
		}},
		"silence": {want: freed{link: -1}},
		"cut": {want: freed{link: -1}, act: func(_ *testing.T, _ *farLink, _ relay.Pending, e *relay.Engine) {
			now, cancel := context.WithCancel(context.Background())
			cancel()
			_ = e.Shutdown(now)
		}},
		"shut down": {act: func(t *testing.T, far *farLink, _ relay.Pending, e *relay.Engine) {
			go func() { _ = far.CloseWrite() }()
			nstest.Must(t, e.Shutdown(t.Context()))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			engine := newEngine(t, relay.Options{})
			near, far := w.farLink(t, newEngine(t, relay.Options{}), true)
			free := make(chan freed, 2)
			p := engine.Leave(relay.Leaving{Accepted: near.fd, Layer: near.layer, Said: tt.said, OnFree: func(link int, said []byte) {
				free <- freed{link, string(said)}
			}})
			if tt.act != nil {
				tt.act(t, far, p, engine)
			}
			got := <-free
			if tt.want.link == 0 {
				tt.want.link = near.fd
			}
			if got != tt.want {
				t.Errorf("OnFree got %+v, want %+v", got, tt.want)
			}
			if got.link >= 0 {
				socket.Close(got.link)
			} else if name != "RST" {
				wantReset(t, far.Conn)
			}
			nstest.Must(t, engine.Shutdown(t.Context()))
			if len(free) > 0 {
				t.Error("OnFree was called twice")
			}
		})
	}
}

// TestClosedEngineLosesLinks checks that an engine that is shut down calls OnFree, too.
func TestClosedEngineLosesLinks(t *testing.T) {
	engine := newEngine(t, relay.Options{})
	nstest.Must(t, engine.Shutdown(t.Context()))
	free := make(chan int, 3)
	onFree := func(link int, _ []byte) { free <- link }
	first, a := tcpPair(t)
	engine.Leave(relay.Leaving{Accepted: detach(t, a), OnFree: onFree})
	second, b := tcpPair(t)
	_, c := tcpPair(t)
	engine.Relay(relay.Pair{Accepted: detach(t, c), Dialed: detach(t, b), Framed: relay.DialedLink, OnFree: onFree})
	for range 2 {
		if link := <-free; link != -1 {
			t.Errorf("OnFree got %d", link)
		}
	}
	wantReset(t, first)
	wantReset(t, second)
}

// TestLinkSplicesBulk checks that both ends of a link take a pipe for much in one direction.
func TestLinkSplicesBulk(t *testing.T) {
	for before, up := range []bool{true, false} {
		t.Run(fmt.Sprintf("up: %v, after %d", up, before), func(t *testing.T) { testLinkSplices(t, up, before) })
	}
}

func testLinkSplices(t *testing.T, up bool, before int) {
	c := newChain(t, linked)
	for range before {
		c.live(t, life{Peer: act{Size: 10, Piece: 10}, Service: act{Size: 10, Piece: 10}})
	}
	pipes := openPipes(t)
	for same := 0; same < 10; same++ { // the pipes of net are pooled, and closed some time after they are collected
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
		if n := openPipes(t); n != pipes {
			pipes, same = n, 0
		}
	}
	const size = 50 << 20
	l := life{Peer: act{Piece: 1 << 20}, Service: act{Piece: 1 << 20}}
	if up {
		l.Peer.Size = size
	} else {
		l.Service.Size = size
	}
	c.live(t, l)
	if n := openPipes(t) - pipes; n != 2 {
		t.Errorf("the two ends took %d pipes", n)
	}
	nstest.Must(t, c.close())
}

// openPipes returns the number of pipes that the process has.
func openPipes(t *testing.T) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	nstest.Must(t, err)
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, "pipe:") {
			n++
		}
	}
	return n / 2
}
