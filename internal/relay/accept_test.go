package relay_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
)

// logged collects log lines.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logged) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), s)
}

// accepting returns an engine that accepts on loopback.
func accepting(t *testing.T, o relay.Options, handle func(e *relay.Engine, fd int, from netip.AddrPort)) (e *relay.Engine, addr string, log *logged) {
	t.Helper()
	log = new(logged)
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	e = newEngine(t, o)
	l, err := socket.Listen(t.Context(), "127.0.0.1:0", net.KeepAliveConfig{})
	nstest.Must(t, err)
	addr = l.Addr().String()
	nstest.Must(t, e.Accept(l, func(fd int, from netip.AddrPort) { handle(e, fd, from) }))
	return e, addr, log
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	nstest.Must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// toEcho returns a handler that relays every peer to an echo service, by a connection
// that is still under way.
func toEcho(t *testing.T) func(e *relay.Engine, fd int, from netip.AddrPort) {
	t.Helper()
	service := listenTCP(t)
	go func() {
		for {
			c, err := service.AcceptTCP()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	to := service.Addr().(*net.TCPAddr).AddrPort()
	return func(e *relay.Engine, fd int, _ netip.AddrPort) {
		d, err := socket.Connect(netip.AddrPort{}, to, net.KeepAliveConfig{}, nil)
		if err != nil {
			socket.Reset(fd)
			return
		}
		e.Relay(relay.Pair{Accepted: fd, Dialed: d})
	}
}

func listenTCP(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	nstest.Must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// TestAccept serves many peers at once, from their connect on.
func TestAccept(t *testing.T) {
	_, addr, _ := accepting(t, relay.Options{Loops: 2}, toEcho(t))
	var peers sync.WaitGroup
	for range 200 {
		peers.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			data := bytes.Repeat([]byte("0123456789"), 10_000)
			go func() {
				_, _ = c.Write(data)
				_ = c.(*net.TCPConn).CloseWrite()
			}()
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes came back: %v", len(got), err)
			}
		})
	}
	peers.Wait()
}

// TestShutdownStopsAccepting checks that Shutdown closes the listener at once, and that
// the pairs which are there finish.
func TestShutdownStopsAccepting(t *testing.T) {
	e, addr, _ := accepting(t, relay.Options{}, toEcho(t))
	c := dial(t, addr)
	nstest.Must(t, second(c.Write([]byte("x"))))
	nstest.Must(t, second(io.ReadFull(c, make([]byte, 1))))
	ended := make(chan error, 1)
	go func() { ended <- e.Shutdown(context.Background()) }()
	nstest.WaitFor(t, "a refusal", func() bool {
		other, err := net.Dial("tcp", addr)
		if err == nil {
			_ = other.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	if !e.Draining() {
		t.Error("it does not say that it drains")
	}
	nstest.Must(t, second(c.Write([]byte("y"))))
	nstest.Must(t, second(io.ReadFull(c, make([]byte, 1))))
	select {
	case err := <-ended:
		t.Fatalf("Shutdown returned %v with a pair under way", err)
	default:
	}
	_ = c.Close()
	nstest.Must(t, <-ended)
}

// TestRetire checks that Retire closes the listener, serves peers that connected before, and
// ends silent prefaces, while pairs continue.
func TestRetire(t *testing.T) {
	e, addr, _ := accepting(t, relay.Options{}, toEcho(t))
	echoes := func(c *net.TCPConn) {
		t.Helper()
		nstest.Must(t, second(c.Write([]byte("x"))))
		nstest.Must(t, second(io.ReadFull(c, make([]byte, 1))))
	}
	c := dial(t, addr)
	echoes(c)
	silent, acceptedEnd := tcpPair(t)
	defer silent.Close()
	idle := make(chan struct{})
	e.ReadPreface(relay.Preface{
		Accepted: detach(t, acceptedEnd),
		OnIdle:   func(_ context.Context, fd int) { _ = syscall.Close(fd); close(idle) },
		OnError:  func(err error) { t.Error(err) },
	})
	before := dial(t, addr)
	e.Retire()
	e.Retire()
	if other, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v, %v after Retire", other, err)
	}
	echoes(before)
	<-idle
	if e.Draining() || !e.Retired() {
		t.Error("the engine drains, or has not retired")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if e.Wait(ctx) {
		t.Error("Wait returned while pairs are live")
	}
	echoes(c)
	nstest.Must(t, c.Close(), before.Close())
	if !e.Wait(t.Context()) {
		t.Error("Wait did not wait for the last pair")
	}
	nstest.Must(t, e.Shutdown(t.Context()))
}

// TestUnreached checks that the owner gets the accepted socket back if the connect fails,
// or is not answered.
func TestUnreached(t *testing.T) {
	full := listenTCP(t)
	for name, tt := range map[string]struct {
		to   netip.AddrPort
		want error
	}{
		"refused": {netip.MustParseAddrPort("127.0.0.1:1"), syscall.ECONNREFUSED},
		"late":    {netip.MustParseAddrPort("127.0.0.1:2"), relay.ErrTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan error, 1)
			_, addr, _ := accepting(t, relay.Options{}, func(e *relay.Engine, fd int, _ netip.AddrPort) {
				d, err := socket.Connect(netip.AddrPort{}, tt.to, net.KeepAliveConfig{}, nil)
				if name == "late" {
					// A socket that neither connects nor fails: there is no room for it.
					socket.Close(d)
					d, err = never(full)
				}
				if err != nil {
					t.Error(err)
				}
				e.Relay(relay.Pair{
					Accepted: fd, Dialed: d, ConnectTimeout: time.Millisecond, UpPrefix: []byte("not delivered"),
					Done: func(r relay.Result) { t.Errorf("it ended as %+v", r) },
					OnUndelivered: func(_ context.Context, u relay.Undelivered) {
						_ = socket.Send(u.Accepted, []byte("sorry"))
						socket.Close(u.Accepted)
						got <- u.Err
					},
				})
			})
			c := dial(t, addr)
			if b, err := io.ReadAll(c); err != nil || string(b) != "sorry" {
				t.Errorf("the peer read %q, %v", b, err)
			}
			if err := <-got; !errors.Is(err, tt.want) {
				t.Errorf("unreached for %v, want %v", err, tt.want)
			}
		})
	}
}

// never returns a socket whose connect(2) does not end: the backlog of its listener is full.
func never(l *net.TCPListener) (int, error) {
	to := l.Addr().(*net.TCPAddr).AddrPort()
	raw, err := l.SyscallConn()
	if err != nil {
		return -1, err
	}
	_ = raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 0) })
	if err != nil {
		return -1, err
	}
	for range 3 {
		if _, err := socket.Connect(netip.AddrPort{}, to, net.KeepAliveConfig{}, nil); err != nil {
			return -1, err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return socket.Connect(netip.AddrPort{}, to, net.KeepAliveConfig{}, nil)
}

// TestPanicInHandler checks that a panic in a handler costs no other connection.
func TestPanicInHandler(t *testing.T) {
	echo := toEcho(t)
	first := true
	_, addr, log := accepting(t, relay.Options{Loops: 1}, func(e *relay.Engine, fd int, from netip.AddrPort) {
		if first {
			first = false
			panic("a bug")
		}
		echo(e, fd, from)
	})
	dial(t, addr)
	c := dial(t, addr)
	nstest.Must(t, second(c.Write([]byte("x"))))
	nstest.Must(t, second(io.ReadFull(c, make([]byte, 1))))
	if log.count("a bug") != 1 {
		t.Error("the panic was not logged")
	}
}

// TestOutOfDescriptors takes all descriptors away from the process: the listener must
// pause, log that once, and go on when there are some again.
func TestOutOfDescriptors(t *testing.T) {
	handled := make(chan struct{}, 10)
	_, addr, log := accepting(t, relay.Options{}, func(_ *relay.Engine, fd int, _ netip.AddrPort) {
		socket.Close(fd)
		handled <- struct{}{}
	})
	c := dial(t, addr) // so that the poller and all else is set up
	<-handled
	peer, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	nstest.Must(t, err)
	defer syscall.Close(peer)
	_ = c.Close()

	at := s4(t, addr)
	release := takeAllDescriptors(t)
	if err := syscall.Connect(peer, at); err != nil { // the backlog takes it
		t.Fatal(err)
	}
	for log.count("cannot accept") == 0 {
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond) // several tries
	release()
	<-handled
	if n := log.count("cannot accept"); n != 1 {
		t.Errorf("it said so %d times", n)
	}
	for log.count("accepting again") == 0 {
		time.Sleep(50 * time.Millisecond)
		_ = dial(t, addr).Close()
		<-handled
	}
}

// takeAllDescriptors lowers the limit to what is open now.
func takeAllDescriptors(t *testing.T) (release func()) {
	t.Helper()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	highest := 0
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		n := 0
		for _, d := range e.Name() {
			n = n*10 + int(d-'0')
		}
		highest = max(highest, n)
	}
	var fillers []int
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: uint64(highest + 1), Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	for {
		fd, err := syscall.Dup(0)
		if err != nil {
			break
		}
		fillers = append(fillers, fd)
	}
	return func() {
		for _, fd := range fillers {
			_ = syscall.Close(fd)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
			t.Fatal(err)
		}
	}
}

func s4(t *testing.T, addr string) *syscall.SockaddrInet4 {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())}
}
