package relay_test

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"hash/maphash"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
)

// bulk is the number of bytes under way in the tests of close semantics: more than
// all buffers between the ends can hold.
const bulk = 48 << 20

// rig is a peer and a service with an engine between them, on loopback.
type rig struct {
	engine        *relay.Engine
	way           way
	peer, service *net.TCPConn
	result        chan relay.Result
}

func newRig(t testing.TB, o relay.Options, w way) *rig {
	t.Helper()
	r := &rig{engine: newEngine(t, o), way: w, result: make(chan relay.Result, 1)}
	r.connect(t)
	t.Cleanup(func() {
		_ = r.peer.Close()
		_ = r.service.Close()
	})
	return r
}

// TestMain adds a processor for everything but the loops, as the daemon does. It has the
// runtime open its poller, so that tests can count descriptors.
func TestMain(m *testing.M) {
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		_ = l.Close()
	}
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	os.Exit(m.Run())
}

// newEngine returns an engine that is cut when the test is over.
func newEngine(t testing.TB, o relay.Options) *relay.Engine {
	t.Helper()
	e, err := relay.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = e.Shutdown(ctx)
	})
	return e
}

// connect relays one more pair.
func (r *rig) connect(t testing.TB) {
	t.Helper()
	var accepted, dialed *net.TCPConn
	r.peer, accepted = tcpPair(t)
	dialed, r.service = tcpPair(t)
	r.way.relay(t, r.engine, relay.Pair{Accepted: detach(t, accepted), Dialed: detach(t, dialed), Done: func(res relay.Result) { r.result <- res }})
}

// tcpPair returns both ends of a TCP connection.
func tcpPair(t testing.TB) (dialed, accepted *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d, err := net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	a, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	return d, a
}

// detach takes a connection out of package net.
func detach(t testing.TB, c *net.TCPConn) int {
	t.Helper()
	fd, err := socket.Detach(c)
	nstest.Must(t, err)
	nstest.Must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)) // as socket.Listen and Connect do
	return fd
}

func (r *rig) wantResult(t *testing.T, up, down int64, end relay.End) {
	t.Helper()
	select {
	case got := <-r.result:
		if got.End != end {
			t.Errorf("the pair ended as %q (%v), want %q", got.End, got.Err, end)
		}
		if up >= 0 && got.Up != up || down >= 0 && got.Down != down {
			t.Errorf("the pair carried %d up and %d down, want %d and %d", got.Up, got.Down, up, down)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the pair did not end")
	}
}

var sumSeed = maphash.MakeSeed()

// newSum returns a hash that costs little.
func newSum() *maphash.Hash {
	h := new(maphash.Hash)
	h.SetSeed(sumSeed)
	return h
}

// send writes n random bytes to c and returns their hash.
func send(c io.Writer, n int64) (sum uint64, err error) {
	h := newSum()
	_, err = io.CopyN(io.MultiWriter(c, h), random(n), n)
	return h.Sum64(), err
}

// random returns a cheap endless stream that differs from run to run.
func random(seed int64) io.Reader {
	return rand.NewChaCha8([32]byte{byte(seed), byte(time.Now().UnixNano())})
}

// receive reads c to its end.
func receive(c io.Reader) (n int64, sum uint64, err error) {
	h := newSum()
	n, err = io.Copy(struct{ hash.Hash }{h}, struct{ io.Reader }{c})
	return n, h.Sum64(), err
}

// end is an end of a connection, or the far end of a link.
type end interface {
	io.ReadWriter
	CloseWrite() error
	SetReadDeadline(t time.Time) error
}

// oneWay sends bulk from one end, half-closes it, and checks that the other
// reads just that and then the end.
func oneWay(from, to end) error {
	type sent struct {
		sum uint64
		err error
	}
	done := make(chan sent, 1)
	go func() {
		sum, err := send(from, bulk)
		done <- sent{sum, errors.Join(err, from.CloseWrite())}
	}()
	n, sum, err := receive(to)
	s := <-done
	if err != nil || s.err != nil {
		return fmt.Errorf("receive: %w, send: %w", err, s.err)
	}
	if n != bulk || sum != s.sum {
		return fmt.Errorf("%d bytes arrived, want %d; equal: %v", n, int64(bulk), sum == s.sum)
	}
	return nil
}

func TestPeerHalfClosesAndServiceAnswersAfterIt(t *testing.T) {
	eachWay(t, testPeerHalfClosesAndServiceAnswersAfterIt)
}

func testPeerHalfClosesAndServiceAnswersAfterIt(t *testing.T, w way) {
	r := newRig(t, relay.Options{}, w)
	nstest.Must(t, oneWay(r.peer, r.service))
	nstest.Must(t, oneWay(r.service, r.peer))
	r.wantResult(t, bulk, bulk, relay.Finished)
}

func TestServiceHalfClosesFirstAndStillReads(t *testing.T) {
	eachWay(t, testServiceHalfClosesFirstAndStillReads)
}

func testServiceHalfClosesFirstAndStillReads(t *testing.T, w way) {
	r := newRig(t, relay.Options{}, w)
	nstest.Must(t, oneWay(r.service, r.peer))
	nstest.Must(t, oneWay(r.peer, r.service))
	r.wantResult(t, bulk, bulk, relay.Finished)
}

func TestBothSendAtOnce(t *testing.T) { eachWay(t, testBothSendAtOnce) }

func testBothSendAtOnce(t *testing.T, w way) {
	r := newRig(t, relay.Options{}, w)
	up := make(chan error, 1)
	go func() { up <- oneWay(r.peer, r.service) }()
	nstest.Must(t, oneWay(r.service, r.peer))
	nstest.Must(t, <-up)
	r.wantResult(t, bulk, bulk, relay.Finished)
}

func TestReceiverReadsSlowlyLongAfterSenderClosed(t *testing.T) {
	eachWay(t, testReceiverReadsSlowlyLongAfterSenderClosed)
}

func testReceiverReadsSlowlyLongAfterSenderClosed(t *testing.T, w way) {
	for _, dir := range []string{"up", "down"} {
		t.Run(dir, func(t *testing.T) {
			r := newRig(t, relay.Options{}, w)
			from, to := r.peer, r.service
			if dir == "down" {
				from, to = to, from
			}
			closed := make(chan uint64, 1)
			go func() {
				sum, err := send(from, bulk)
				if err == nil {
					err = from.Close() // all of it, not just one direction
				}
				if err != nil {
					t.Error("send:", err)
				}
				closed <- sum
			}()
			h := newSum()
			var n int64
			var sum *uint64
			for {
				m, err := io.CopyN(h, to, 256<<10)
				n += m
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("receive after %d bytes: %v", n, err)
				}
				if sum == nil {
					select {
					case s := <-closed:
						sum = &s
						// What is left is in the buffers between; let the
						// end of it be old before it is read.
						time.Sleep(100 * time.Millisecond)
					default:
					}
				} else {
					time.Sleep(2 * time.Millisecond)
				}
			}
			if sum == nil {
				s := <-closed
				sum = &s
			}
			if n != bulk || h.Sum64() != *sum {
				t.Fatalf("%d of %d bytes arrived, or others", n, bulk)
			}
			_ = to.Close()
			if dir == "up" {
				r.wantResult(t, bulk, 0, relay.Finished)
			} else {
				r.wantResult(t, 0, bulk, relay.Finished)
			}
		})
	}
}

// TestLivesUntilDelivered checks that a pair of which all ends are closed lives while its
// last bytes wait in the kernel for a slow receiver.
func TestLivesUntilDelivered(t *testing.T) {
	r := newRig(t, relay.Options{}, plain)
	nstest.Must(t, r.service.SetReadBuffer(64<<10))
	nstest.Must(t, r.service.CloseWrite())
	const much = 1 << 20
	sent := make(chan error, 1)
	go func() {
		_, err := send(r.peer, much)
		sent <- errors.Join(err, r.peer.Close())
	}()
	nstest.Must(t, <-sent) // the kernel has it all, and the peer is gone
	select {
	case got := <-r.result:
		t.Fatalf("the pair ended with bytes under way: %+v", got)
	case <-time.After(300 * time.Millisecond):
	}
	n, _, err := receive(r.service)
	nstest.Must(t, err)
	if n != much {
		t.Errorf("%d bytes arrived", n)
	}
	r.wantResult(t, much, 0, relay.Finished)
}

// resetting closes by RST.
func resetting(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// wantReset waits until the kernel was told that c is reset. It neither reads
// nor writes: a write would provoke the reset that it looks for.
func wantReset(t *testing.T, c *net.TCPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	nstest.Must(t, err)
	nstest.WaitFor(t, "a reset", func() bool {
		var info *unix.TCPInfo
		var err error
		nstest.Must(t, raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }))
		nstest.Must(t, err)
		return info.State == unix.BPF_TCP_CLOSE
	})
	// An end that has sent and received FIN is closed as well; what it is told
	// then is no error.
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	_, rerr := io.Copy(io.Discard, c)
	_, werr := c.Write([]byte("x"))
	if !isReset(rerr) && !isReset(werr) {
		t.Fatalf("the other end reads %v and writes %v, want a reset", rerr, werr)
	}
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// TestReset resets one end in each state that a connection can be in; the
// other end must see a reset.
func TestReset(t *testing.T) { eachWay(t, testReset) }

func testReset(t *testing.T, w way) {
	states := map[string]func(t *testing.T, resetter, other *net.TCPConn){
		"idle": func(*testing.T, *net.TCPConn, *net.TCPConn) {},
		"resetter is sending": func(t *testing.T, resetter, other *net.TCPConn) {
			go func() { _, _ = send(resetter, bulk) }()
			_, err := io.CopyN(io.Discard, other, bulk/4)
			nstest.Must(t, err)
		},
		"other is sending": func(t *testing.T, resetter, other *net.TCPConn) {
			go func() { _, _ = send(other, bulk) }()
			_, err := io.CopyN(io.Discard, resetter, bulk/4)
			nstest.Must(t, err)
		},
		"resetter has half-closed": func(t *testing.T, resetter, other *net.TCPConn) {
			halfClose(t, resetter, other)
		},
		"other has half-closed": func(t *testing.T, resetter, other *net.TCPConn) {
			halfClose(t, other, resetter)
		},
	}
	for name, enter := range states {
		t.Run("peer/"+name, func(t *testing.T) {
			r := newRig(t, relay.Options{}, w)
			enter(t, r.peer, r.service)
			resetting(r.peer)
			wantReset(t, r.service)
			r.wantResult(t, -1, -1, relay.AcceptedReset)
		})
		t.Run("service/"+name, func(t *testing.T) {
			r := newRig(t, relay.Options{}, w)
			enter(t, r.service, r.peer)
			resetting(r.service)
			wantReset(t, r.peer)
			r.wantResult(t, -1, -1, relay.DialedReset)
		})
	}
}

// TestDataBeforeReset checks that bytes from before a reset arrive before it, as they do
// on a direct connection.
func TestDataBeforeReset(t *testing.T) {
	r := newRig(t, relay.Options{}, plain)
	for range 300 {
		nstest.Must(t, second(r.peer.Write([]byte("unread")))) // which makes a close a reset
		nstest.WaitFor(t, "it to arrive", func() bool { return available(t, r.service) > 0 })
		nstest.Must(t, second(r.service.Write([]byte("the last word"))))
		nstest.Must(t, r.service.Close())
		got := make([]byte, 100)
		n, err := io.ReadFull(r.peer, got)
		if string(got[:n]) != "the last word" || !isReset(err) {
			t.Fatalf("read %q, %v", got[:n], err)
		}
		_ = r.peer.Close()
		<-r.result
		r.connect(t)
	}
}

// available returns how many bytes a connection has to read.
func available(t *testing.T, c *net.TCPConn) (n int) {
	t.Helper()
	raw, err := c.SyscallConn()
	nstest.Must(t, err)
	nstest.Must(t, raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCINQ) }))
	nstest.Must(t, err)
	return n
}

// halfClose ends one direction and waits until the other end has read that.
func halfClose(t *testing.T, from, to *net.TCPConn) {
	t.Helper()
	nstest.Must(t, from.CloseWrite())
	if n, err := to.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("read %d, %v, want EOF", n, err)
	}
}

func TestShutdownWaits(t *testing.T) { eachWay(t, testShutdownWaits) }

func testShutdownWaits(t *testing.T, w way) {
	r := newRig(t, relay.Options{}, w)
	ended := make(chan error, 1)
	go func() { ended <- r.engine.Shutdown(t.Context()) }()
	// The live pair lives on.
	nstest.Must(t, oneWay(r.peer, r.service))
	select {
	case err := <-ended:
		t.Fatalf("Shutdown returned %v before the pair had ended", err)
	default:
	}
	nstest.Must(t, oneWay(r.service, r.peer))
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	r.wantResult(t, bulk, bulk, relay.Finished)
}

func TestShutdownCuts(t *testing.T) { eachWay(t, testShutdownCuts) }

func testShutdownCuts(t *testing.T, w way) {
	r := newRig(t, relay.Options{}, w)
	why := errors.New("time is over")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := r.engine.Shutdown(ctx); !errors.Is(err, why) {
		t.Fatalf("Shutdown returned %v, want %v", err, why)
	}
	// The second half may be cut first, which resets the first half.
	if res := <-r.result; res.End != relay.Cut && (w == plain || res.End != relay.DialedReset && res.End != relay.Refused) {
		t.Fatalf("the pair ended as %q (%v), want %q", res.End, res.Err, relay.Cut)
	}
	wantReset(t, r.peer)
	wantReset(t, r.service)
	if n := r.engine.Len(); n != 0 {
		t.Fatalf("%d pairs are left", n)
	}

	t.Run("and takes no more", func(t *testing.T) {
		r.connect(t)
		r.wantResult(t, 0, 0, relay.Cut)
		wantReset(t, r.peer)
	})
}

// TestNothingLeaks ends many pairs in every way and counts descriptors and
// goroutines.
func TestNothingLeaks(t *testing.T) { eachWay(t, testNothingLeaks) }

func testNothingLeaks(t *testing.T, w way) {
	engine := newEngine(t, relay.Options{})
	before, goroutines := descriptors(t), runtime.NumGoroutine()
	var ended atomic.Int64
	const pairs = 300
	for i := range pairs {
		peer, accepted := tcpPair(t)
		dialed, service := tcpPair(t)
		w.relay(t, engine, relay.Pair{Accepted: detach(t, accepted), Dialed: detach(t, dialed), Done: func(relay.Result) { ended.Add(1) }})
		if _, err := peer.Write(make([]byte, 10_000)); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			resetting(peer)
		} else {
			_ = peer.Close()
		}
		if i%2 == 0 {
			resetting(service)
		} else {
			_ = service.Close()
		}
	}
	nstest.WaitFor(t, "every pair to end", func() bool { return ended.Load() == pairs })
	nstest.WaitFor(t, "descriptors and goroutines to go", func() bool {
		runtime.GC() // the pipes of net are pooled, and closed when collected
		return descriptors(t) <= before && runtime.NumGoroutine() <= goroutines
	})
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
