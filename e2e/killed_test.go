package e2e_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/testnet/far"
	"portredirector/internal/testnet/nstest"
)

// TestKilledNeverLooksWhole kills a client or a server at random moments while peers connect, send, half-close and receive, and
// while it drains. A stream that ends in order must be whole, at the peers and at the service.
func TestKilledNeverLooksWhole(t *testing.T) {
	for _, victim := range []string{"client", "server"} {
		for kind, newTrust := range kinds {
			if kind == "certificates" {
				continue // as encrypted
			}
			t.Run(victim+"/"+kind, func(t *testing.T) {
				t.Parallel()
				keys := newTrust(t)
				w := newWorld(t)
				load := newStreams(t, w, listen(t, w.m2, loopback80), 21)
				startServer := func() *daemon { return w.server(t, "-p 80 "+keys.server) }
				startClient := func() *daemon { return w.client(t, "-p 80 --connect-timeout 4s "+keys.client) }
				server, client := startServer(), startClient()
				for round := range 2 {
					idle := dial(t, w.bob.Host, w.bob.at(80)) // without which a drain could be over
					load.start(t)
					some := load.whole.Load() + int64(rand.IntN(60))
					nstest.WaitFor(t, "some streams to end", func() bool { return load.whole.Load() > some })
					time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
					d, again := &client, startClient
					if victim == "server" {
						d, again = &server, startServer
					}
					if round%2 == 1 {
						(*d).Signal(syscall.SIGTERM)
						time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
					}
					(*d).ended = true
					(*d).Signal(syscall.SIGKILL)
					(*d).Wait()
					load.wait()
					wantReset(t, idle)
					*d = again()
				}
				whole, cut := load.whole.Load(), load.cut.Load()
				t.Logf("%d streams were whole, %d cut", whole, cut)
				if whole == 0 || cut == 0 {
					t.Errorf("%d streams were whole and %d cut, which proves nothing", whole, cut)
				}
			})
		}
	}
}

// TestOrderlyEndsAreWhole lets peers connect, send, half-close and receive over a link that loses packets, and then drains
// both programs. No stream may be cut: a FIN, or what is before it, may have to be sent again after its socket was closed.
func TestOrderlyEndsAreWhole(t *testing.T) {
	for kind, newTrust := range kinds {
		if kind == "certificates" {
			continue // as encrypted
		}
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			keys := newTrust(t)
			w := newWorld(t, func(w *world) {
				nstest.Run(t, w.m1, "ip", "link", "delete", "m2")
				nstest.ConnectFar(t, w.m1, nstest.Prefixes("10.0.0.1/24"), w.m2, nstest.Prefixes("10.0.0.2/24"),
					far.Path{Delay: 5 * time.Millisecond, Loss: 0.02})
			})
			load := newStreams(t, w, listen(t, w.m2, loopback80), 17)
			server := w.server(t, "-p 80 --drain-timeout 1m "+keys.server)
			client := w.client(t, "-p 80 --drain-timeout 1m "+keys.client)
			load.start(t)
			nstest.WaitFor(t, "streams to end", func() bool { return load.whole.Load() > 100 })
			load.stop.Store(true)
			nstest.WaitFor(t, "the last peers to arrive", func() bool { return load.coming.Load() == 0 && load.peers.Load() == load.served.Load() })
			client.Signal(syscall.SIGTERM)
			server.Signal(syscall.SIGTERM)
			load.wait()
			client.wantEnd(t)
			server.wantEnd(t)
			if n := load.cut.Load(); n > 0 {
				t.Errorf("%d streams were cut, and %d whole", n, load.whole.Load())
			}
		})
	}
}

// streams is many peers that come at once, and their service. Each stream says first how long it is.
type streams struct {
	connect func() (*net.TCPConn, error)
	report  func(format string, args ...any)

	ends       sync.WaitGroup
	stop       atomic.Bool
	whole, cut atomic.Int64 // streams
	coming     atomic.Int64 // peers that connect
	peers      atomic.Int64 // that are connected
	served     atomic.Int64 // peers that the service has accepted
	bits       int          // of the longest stream's length
}

func newStreams(t *testing.T, w *world, service *net.TCPListener, bits int) *streams {
	t.Helper()
	l := &streams{
		bits:    bits,
		report:  t.Errorf,
		connect: func() (*net.TCPConn, error) { return w.alice.Dial(t.Context(), netip.AddrPort{}, w.alice.at(80)) },
	}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := service.AcceptTCP()
			if err != nil {
				return
			}
			l.served.Add(1)
			accepting.Go(func() { l.converse(c, "service") })
		}
	})
	t.Cleanup(func() {
		_ = service.Close()
		accepting.Wait()
	})
	return l
}

// start lets peers come until nobody accepts them any more.
func (l *streams) start(t *testing.T) {
	t.Helper()
	for range 30 {
		l.ends.Go(func() {
			for {
				l.coming.Add(1)
				if l.stop.Load() {
					l.coming.Add(-1)
					return
				}
				c, err := l.connect()
				l.peers.Add(1)
				l.coming.Add(-1)
				if errors.Is(err, syscall.ECONNREFUSED) || isReset(err) {
					return
				}
				if err != nil {
					l.report("connect: %v", err)
					return
				}
				if !l.converse(c, "peer") {
					return
				}
			}
		})
	}
}

func (l *streams) wait() { l.ends.Wait() }

// converse sends one stream, receives one, and reports whether that was whole.
func (l *streams) converse(c *net.TCPConn, name string) bool {
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	sent := make(chan error, 1)
	send := func() {
		err := sendStream(c, l.bits)
		if err == nil {
			err = c.CloseWrite()
		}
		sent <- err
	}
	late := name == "service" && rand.IntN(2) == 0 // sends when it has received all
	if !late {
		go send()
	}
	received := receiveStream(c)
	if late {
		send()
	}
	// The kernel reports a reset once: to the sender or to the receiver, and to the other the end.
	switch err := <-sent; {
	case isReset(received), isReset(err):
		l.cut.Add(1)
		return false
	case received != nil:
		l.report("%s: %v", name, received)
		return false
	}
	l.whole.Add(1)
	return true
}

// sendStream sends a stream of random length in random pieces.
func sendStream(c *net.TCPConn, bits int) error {
	length := 1 + rand.IntN(1<<(4+rand.IntN(bits-3)))
	b := binary.BigEndian.AppendUint64(nil, uint64(length))
	for i := range length {
		b = append(b, byte(i%251))
	}
	for len(b) > 0 {
		n := min(len(b), 1+rand.IntN(256<<10))
		if _, err := c.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// receiveStream reads a stream to its end. It returns an error if the end comes too early, in order or by a reset.
func receiveStream(c *net.TCPConn) error {
	b, err := io.ReadAll(c)
	if err != nil {
		return err
	}
	if len(b) < 8 {
		return fmt.Errorf("a whole stream of %d bytes", len(b))
	}
	if length := binary.BigEndian.Uint64(b); length != uint64(len(b)-8) {
		return fmt.Errorf("%d of %d bytes, and then the end as if they were all", len(b)-8, length)
	}
	for i, x := range b[8:] {
		if x != byte(i%251) {
			return fmt.Errorf("byte %d is another", i)
		}
	}
	return nil
}
