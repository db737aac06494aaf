package relay_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
)

// TestLinkLives lets one peer after another live a random life on the link between a client
// and a server, and compares each byte that arrives. In some lives a process dies.
func TestLinkLives(t *testing.T) {
	fds := descriptors(t)
	rapid.Check(t, func(rt *rapid.T) {
		w := rapid.SampledFrom([]way{linked, linked, secured}).Draw(rt, "way")
		lives := rapid.SliceOfN(rapid.Custom(drawLife), 1, 8).Draw(rt, "lives")
		c := newChain(t, w)
		for _, l := range lives {
			c.live(t, l)
		}
		if err := c.close(); err != nil {
			rt.Fatal(err)
		}
	})
	nstest.WaitFor(t, "descriptors to go", func() bool { return descriptors(t) <= fds })
}

// act tells how one end of a peer's connection sends, reads and ends.
type act struct {
	Size   int // bytes that it sends
	Piece  int // in one write
	Pause  time.Duration
	Resets bool          // behind them; else it sends FIN
	Slow   time.Duration // before each read
}

// life is one peer and its service.
type life struct {
	Peer, Service act
	Peeked        int    // bytes that were read of the peer before it is relayed
	Refuses       string // the server, or the service
	Dies          string // the process that dies
	After         time.Duration
}

// edges are sizes around which something changes.
var edges = []int{1, wire.FrameHead, 1 << 10, 16 << 10, 48 << 10, 64 << 10, 128 << 10, 1 << 20}

func drawSize(t *rapid.T) int {
	switch rapid.IntRange(0, 9).Draw(t, "kind of size") {
	case 0:
		return 0
	case 1, 2, 3:
		return rapid.IntRange(0, 100).Draw(t, "small")
	case 4, 5, 6:
		return max(0, rapid.SampledFrom(edges).Draw(t, "edge")+rapid.IntRange(-2*wire.FrameHead, 2*wire.FrameHead).Draw(t, "beside"))
	case 7, 8:
		return rapid.IntRange(0, 200<<10).Draw(t, "size")
	default:
		return rapid.IntRange(0, 4<<20).Draw(t, "large")
	}
}

func drawPause(t *rapid.T, most time.Duration) time.Duration {
	if rapid.IntRange(0, 3).Draw(t, "pauses") > 0 {
		return 0
	}
	return time.Duration(rapid.IntRange(0, int(most)).Draw(t, "pause"))
}

func drawAct(t *rapid.T) act {
	a := act{Size: drawSize(t), Resets: rapid.IntRange(0, 4).Draw(t, "resets") == 0}
	a.Piece = max(1, drawSize(t), a.Size/20)
	a.Pause, a.Slow = drawPause(t, time.Millisecond), drawPause(t, time.Millisecond/2)
	return a
}

func drawLife(t *rapid.T) life {
	l := life{Peer: drawAct(t), Service: drawAct(t)}
	if rapid.IntRange(0, 2).Draw(t, "peeks") == 0 {
		l.Peeked = min(drawSize(t), l.Peer.Size, 60<<10)
	}
	if rapid.IntRange(0, 5).Draw(t, "refuses") == 0 {
		l.Refuses = rapid.SampledFrom([]string{"server", "service"}).Draw(t, "who refuses")
	}
	if rapid.IntRange(0, 9).Draw(t, "dies") == 0 {
		l.Dies = rapid.SampledFrom([]string{"client", "server"}).Draw(t, "who dies")
		l.After = time.Duration(rapid.IntRange(0, int(5*time.Millisecond)).Draw(t, "after"))
	}
	return l
}

// chain is a client and a server with one link between them.
type chain struct {
	way            way
	client, server *relay.Engine
	listener       *net.TCPListener // of the service
	closed         netip.AddrPort   // where nobody listens
	link           linkEnd          // the client's end; its descriptor is -1 if there is none
	carried        int              // exchanges of the link
	accepting      sync.WaitGroup
	ends           sync.WaitGroup

	mu    sync.Mutex
	lives []*living
	errs  []error
	begun atomic.Int64 // pairs of the server
	gone  atomic.Int64 // pairs of the server that have ended
}

// living is a life under way.
type living struct {
	life
	number int
	served atomic.Bool
	ended  [3]atomic.Bool // the service, the peer, and the pair of the client
	doomed bool           // a process died that had to do with it
	got    [2]int         // by the service, and by the peer
	err    [2]error
	freed  freed
	result relay.Result
}

func newChain(t *testing.T, w way) *chain {
	t.Helper()
	c := &chain{way: w, client: bareEngine(t), server: bareEngine(t), link: linkEnd{fd: -1}}
	c.listener = listenTCP(t)
	closed := listenTCP(t)
	c.closed = closed.Addr().(*net.TCPAddr).AddrPort()
	_ = closed.Close()
	c.accepting.Go(c.acceptServices)
	return c
}

func bareEngine(t *testing.T) *relay.Engine {
	t.Helper()
	e, err := relay.New(relay.Options{Loops: 1})
	nstest.Must(t, err)
	return e
}

func (c *chain) fail(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

// live lets a peer live until the client's end of the link is free or lost.
func (c *chain) live(t *testing.T, l life) {
	t.Helper()
	used := c.link.fd >= 0
	if !used {
		var far linkEnd
		c.link, far = c.way.link(t)
		c.carried = 0
		c.listen(c.server, far, 0, nil)
	}
	c.mu.Lock()
	v := &living{life: l, number: len(c.lives)}
	c.lives = append(c.lives, v)
	c.mu.Unlock()
	peer, acceptedEnd := tcpPair(t)
	accepted := detach(t, acceptedEnd)
	up := v.key(0)
	free, result := make(chan freed, 2), make(chan relay.Result, 2)
	c.client.Relay(relay.Pair{
		Accepted: accepted, Dialed: c.link.fd, DialedLayer: c.link.layer, Framed: relay.DialedLink,
		UpPrefix: c.header(v), OnStatus: onStatus, StatusTimeout: time.Minute,
		Peeked: pattern(up, 0, l.Peeked), PeekedEOF: l.Peeked == l.Peer.Size && !l.Peer.Resets && l.Peeked > 0,
		OnFree: func(link int, said []byte) { free <- freed{link, string(said)} },
		Done:   func(r relay.Result) { result <- r },
		OnUndelivered: func(_ context.Context, u relay.Undelivered) {
			socket.Reset(u.Accepted)
			result <- relay.Result{End: relay.Refused, Err: u.Err}
		},
	})
	c.ends.Go(func() { v.got[1], v.err[1] = c.play(peer, l.Peer, up, l.Peeked, v.key(1)); v.ended[1].Store(true) })
	if l.Dies != "" {
		time.Sleep(l.After)
		c.die(t, l.Dies)
	}
	select {
	case v.freed = <-free:
	case <-time.After(20 * time.Second):
		t.Fatalf("life %d, %s: the link is neither free nor lost: %+v, client %d, server %d", v.number, c.way, l, c.client.Len(), c.server.Len())
	}
	c.ends.Go(func() {
		select {
		case v.result = <-result:
			v.ended[2].Store(true)
		case <-time.After(20 * time.Second):
			c.fail("life %d: Done was not called", v.number)
		}
	})
	c.carried++
	if v.freed.said != "" {
		c.fail("life %d: the server said %q behind it", v.number, v.freed.said)
	}
	if c.link.fd = v.freed.link; l.Dies != "" && c.link.fd >= 0 {
		socket.Reset(c.link.fd)
		c.link.fd = -1
	}
}

// die ends a process: the kernel resets its sockets. Another one takes its place.
func (c *chain) die(t *testing.T, which string) {
	t.Helper()
	now, cancel := context.WithCancel(context.Background())
	cancel()
	e := &c.client
	if which == "server" {
		e = &c.server
	}
	c.mu.Lock()
	for _, v := range c.lives {
		over := v.ended[1].Load() && v.ended[2].Load() && (v.ended[0].Load() || !v.served.Load())
		v.doomed = v.doomed || !over
	}
	c.mu.Unlock()
	_ = (*e).Shutdown(now)
	*e = bareEngine(t)
}

// key names a stream: of the peer if d is 0, or of its service.
func (v *living) key(d int) uint64 { return uint64(v.number)*2 + uint64(d) + 1 }

// header returns what goes up in front of a peer. Its port tells the server which one it is, and
// its destination who refuses it.
func (c *chain) header(v *living) []byte {
	port := map[string]uint16{"": 80, "server": 81, "service": 82}[v.Refuses]
	h, err := wire.Header{
		Source:      netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(v.number+1)),
		Destination: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), port),
	}.Append(nil, wire.Native)
	if err != nil {
		panic(err)
	}
	if c.carried > 0 {
		h = wire.AppendFrame(nil, wire.KindHeader, h...)
	}
	return h
}

// listen has the server wait for a header, as package server does.
func (c *chain) listen(e *relay.Engine, link linkEnd, carried int, said []byte) {
	e.ReadPreface(relay.Preface{
		Accepted: link.fd, Layer: link.layer, Said: said,
		OnData: func(said []byte) (relay.Next, error) { return c.next(e, link, carried, said) },
		OnError: func(err error) {
			if !errors.Is(err, io.EOF) && !isReset(err) && !errors.Is(err, relay.ErrCut) {
				c.fail("link after %d exchanges: %w", carried, err)
			}
		},
		OnIdle: func(_ context.Context, fd int) { socket.Close(fd) },
	})
}

func (c *chain) next(e *relay.Engine, link linkEnd, carried int, said []byte) (relay.Next, error) {
	there := bytes.NewReader(said)
	var h wire.Header
	var err error
	if carried == 0 {
		h, _, err = wire.Read(there)
	} else {
		h, _, err = wire.ReadNext(there, nil, 0)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return relay.Next{}, nil
	}
	if err != nil {
		return relay.Next{}, err
	}
	again := func(fd int, said []byte) {
		c.gone.Add(1)
		if fd >= 0 {
			c.listen(e, linkEnd{fd, link.layer}, carried+1, said)
		}
	}
	c.begun.Add(1)
	behind := bytes.Clone(said[len(said)-there.Len():])
	to := c.listener.Addr().(*net.TCPAddr).AddrPort()
	switch h.Destination.Port() {
	case 81:
		return relay.Next{HandOver: func(_ context.Context, fd int) { c.refuse(e, linkEnd{fd, link.layer}, behind, again) }}, nil
	case 82:
		to = c.closed
	}
	fd, err := socket.Connect(netip.AddrPort{}, to, net.KeepAliveConfig{}, nil)
	if err != nil {
		return relay.Next{}, fmt.Errorf("dial: %w", err)
	}
	return relay.Next{Pair: &relay.Pair{
		Dialed: fd, Framed: relay.AcceptedLink, Peeked: behind, OnFree: again,
		UpPrefix:   binary.BigEndian.AppendUint64(nil, uint64(h.Source.Port()-1)),
		DownPrefix: wire.AppendFrame(nil, wire.KindStatus, byte(wire.Connected)),
		OnUndelivered: func(_ context.Context, u relay.Undelivered) {
			c.refuse(e, linkEnd{u.Accepted, link.layer}, u.Peeked, again)
		},
	}}, nil
}

// refuse refuses a peer.
func (c *chain) refuse(e *relay.Engine, link linkEnd, said []byte, again func(int, []byte)) {
	frame := wire.AppendFrame(nil, wire.KindStatus, byte(wire.Refused))
	var err error
	if link.layer != nil {
		_, err = link.layer.Write(frame)
	} else {
		err = socket.Send(link.fd, frame)
	}
	if err != nil {
		socket.Reset(link.fd)
		c.gone.Add(1)
		return
	}
	e.Leave(relay.Leaving{Accepted: link.fd, Layer: link.layer, Said: said, OnFree: again})
}

// acceptServices plays the services.
func (c *chain) acceptServices() {
	for {
		conn, err := c.listener.AcceptTCP()
		if err != nil {
			return
		}
		c.ends.Go(func() {
			id := make([]byte, 8)
			if _, err := io.ReadFull(conn, id); err != nil {
				_ = conn.Close()
				return
			}
			c.mu.Lock()
			v := c.lives[binary.BigEndian.Uint64(id)]
			c.mu.Unlock()
			if v.served.Swap(true) || v.Refuses != "" {
				c.fail("life %d: a service too many", v.number)
			}
			v.got[0], v.err[0] = c.play(conn, v.Service, v.key(1), 0, v.key(0))
			v.ended[0].Store(true)
		})
	}
}

// pattern returns a part of a stream. Each eight bytes tell which stream it is, and where.
func pattern(key uint64, from, to int) []byte {
	b := make([]byte, 0, to-from+16)
	for word := from / 8; word*8 < to; word++ {
		b = binary.BigEndian.AppendUint64(b, (key<<32|uint64(word))*0x9e3779b97f4a7c15)
	}
	if len(b) == 0 {
		return nil
	}
	return b[from%8 : from%8+to-from]
}

// play plays an end of a connection: it sends the rest of its stream, and reads the other.
func (c *chain) play(conn *net.TCPConn, a act, mine uint64, from int, theirs uint64) (n int, err error) {
	defer conn.Close()
	wrote := make(chan error, 1)
	go func() { wrote <- write(conn, mine, from, a) }()
	n, err = c.read(conn, theirs, a.Slow)
	if werr := <-wrote; err == nil {
		err = werr // the kernel tells of a reset once, and to a reader then of an end
	}
	return n, err
}

// write sends a stream from a position on, and ends.
func write(c *net.TCPConn, key uint64, from int, a act) error {
	for from < a.Size {
		to := min(a.Size, from+a.Piece)
		if _, err := c.Write(pattern(key, from, to)); err != nil {
			return err
		}
		from = to
		time.Sleep(a.Pause)
	}
	if a.Resets {
		resetting(c)
		return nil
	}
	return c.CloseWrite()
}

// read reads a stream to its end, and compares it.
func (c *chain) read(conn *net.TCPConn, key uint64, slow time.Duration) (n int, err error) {
	buf := make([]byte, 32<<10)
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	for {
		time.Sleep(slow)
		m, err := conn.Read(buf)
		if want := pattern(key, n, n+m); !bytes.Equal(buf[:m], want) {
			c.fail("stream %d has other bytes at %d: %x, want %x", key, n, buf[:min(m, 32)], want[:min(m, 32)])
		}
		if n += m; errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// close ends the chain, and returns what went wrong in its life.
func (c *chain) close() error {
	if c.link.fd >= 0 {
		if c.link.layer != nil {
			_, _ = c.link.layer.CloseWrite(), c.link.layer.Flush()
		}
		socket.Close(c.link.fd)
	}
	for _, e := range []*relay.Engine{c.client, c.server} {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		if err := e.Shutdown(ctx); err != nil {
			c.fail("shut down: %w", err)
		}
		cancel()
	}
	_ = c.listener.Close()
	c.accepting.Wait()
	c.ends.Wait()
	for _, v := range c.lives {
		if err := v.check(); err != nil {
			c.fail("life %d, %+v: %w", v.number, v.life, err)
		}
	}
	if b, g := c.begun.Load(), c.gone.Load(); b != g {
		c.fail("OnFree was called %d times for %d exchanges", g, b)
	}
	return errors.Join(c.errs...)
}

// check checks what became of a life.
func (v *living) check() error {
	peer, service, dies := v.Peer, v.Service, v.Dies != "" || v.doomed
	orderly := !peer.Resets && !service.Resets && v.Refuses == "" && !dies
	lost := v.freed.link < 0
	switch {
	case v.served.Load() && v.err[0] == nil && (peer.Resets || v.got[0] != peer.Size):
		return fmt.Errorf("the service got %d bytes and FIN", v.got[0])
	case v.err[1] == nil && (!v.served.Load() || service.Resets || v.got[1] != service.Size):
		return fmt.Errorf("the peer got %d bytes and FIN", v.got[1])
	case orderly && (v.err[0] != nil || v.err[1] != nil || !v.served.Load()):
		return fmt.Errorf("the service got %d bytes and %w, and the peer %d and %w; it ended as %+v", v.got[0], v.err[0], v.got[1], v.err[1], v.result)
	case orderly && (v.result.End != relay.Finished || v.result.Up != int64(peer.Size) || v.result.Down != int64(service.Size)):
		return fmt.Errorf("it ended as %+v", v.result)
	case lost && !dies && !peer.Resets && !service.Resets && peer.Size <= 64<<10: // else much may be under way
		return fmt.Errorf("the link is lost: %+v", v.result)
	case v.Refuses != "" && (v.got[1] > 0 || v.err[1] == nil):
		return fmt.Errorf("a refused peer got %d bytes and %w", v.got[1], v.err[1])
	case v.result.End == relay.Refused && !dies && v.Refuses == "", v.result.End == relay.Failed:
		return fmt.Errorf("it ended as %+v", v.result)
	}
	return nil
}
