package tcpserver_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/tcpserver"
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

// serve starts a server on loopback and returns its address, its log, and
// what Serve returned.
func serve(t *testing.T, s *tcpserver.Server) (addr string, log *logged, served chan error) {
	t.Helper()
	log = new(logged)
	s.Log = slog.New(slog.NewTextHandler(log, nil))
	alive := net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}
	l, err := tcpserver.Listen(t.Context(), "127.0.0.1:0", alive)
	if err != nil {
		t.Fatal(err)
	}
	served = make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(ctx)
	})
	return l.Addr().String(), log, served
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestShutdownWaitsForHandlers(t *testing.T) {
	release, entered := make(chan struct{}), make(chan struct{})
	s := &tcpserver.Server{Handler: func(_ context.Context, c *net.TCPConn) {
		close(entered)
		<-release
		_, _ = c.Write([]byte("done"))
		_ = c.Close()
	}}
	addr, _, served := serve(t, s)
	c := dial(t, addr)
	<-entered
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(context.Background()) }()
	if err := <-served; !errors.Is(err, tcpserver.ErrServerClosed) {
		t.Errorf("Serve returned %v", err)
	}
	if !s.Draining() {
		t.Error("it does not say that it drains")
	}
	if _, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new peer got %v, want a refusal", err)
	}
	select {
	case err := <-ended:
		t.Fatalf("Shutdown returned %v with a handler under way", err)
	default:
	}
	close(release)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if b, err := io.ReadAll(c); err != nil || string(b) != "done" {
		t.Errorf("the peer read %q, %v", b, err)
	}
}

func TestShutdownCutsHandlers(t *testing.T) {
	entered := make(chan struct{})
	s := &tcpserver.Server{Handler: func(ctx context.Context, c *net.TCPConn) {
		close(entered)
		<-ctx.Done()
		_ = c.Close()
	}}
	addr, _, _ := serve(t, s)
	dial(t, addr)
	<-entered
	why := errors.New("time is over")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := s.Shutdown(ctx); !errors.Is(err, why) {
		t.Errorf("Shutdown returned %v, want %v", err, why)
	}
}

// TestAllIPv4Addresses: 0.0.0.0 is what it says.
func TestAllIPv4Addresses(t *testing.T) {
	l, err := tcpserver.Listen(t.Context(), "0.0.0.0:0", net.KeepAliveConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a := l.Addr().(*net.TCPAddr).AddrPort().Addr(); !a.Is4() {
		t.Errorf("it listens on %s", a)
	}
}

// TestAcceptedAreKeptAlive: the kernel finds out about dead peers.
func TestAcceptedAreKeptAlive(t *testing.T) {
	got := make(chan [2]int, 1)
	s := &tcpserver.Server{Handler: func(_ context.Context, c *net.TCPConn) {
		defer c.Close()
		raw, err := c.SyscallConn()
		if err != nil {
			t.Error(err)
		}
		_ = raw.Control(func(fd uintptr) {
			on, _ := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
			idle, _ := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE)
			got <- [2]int{on, idle}
		})
	}}
	addr, _, _ := serve(t, s)
	dial(t, addr)
	if g := <-got; g != [2]int{1, 30} {
		t.Errorf("keepalive and its idle time are %v", g)
	}
}

func TestServeAfterShutdown(t *testing.T) {
	s := &tcpserver.Server{}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := tcpserver.Listen(t.Context(), "127.0.0.1:0", net.KeepAliveConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); !errors.Is(err, tcpserver.ErrServerClosed) {
		t.Errorf("Serve returned %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is not closed: %v", err)
	}
}

func TestPanicEndsOneConnection(t *testing.T) {
	s := &tcpserver.Server{Handler: func(_ context.Context, c *net.TCPConn) {
		var b [1]byte
		_, _ = c.Read(b[:])
		if b[0] == '!' {
			panic("a bug")
		}
		_, _ = c.Write(b[:])
		_ = c.Close()
	}}
	addr, log, _ := serve(t, s)
	bad, good := dial(t, addr), dial(t, addr)
	_, _ = bad.Write([]byte("!"))
	if _, err := bad.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection with the bug saw %v", err)
	}
	_, _ = good.Write([]byte("x"))
	if b, err := io.ReadAll(good); err != nil || string(b) != "x" {
		t.Errorf("the other connection read %q, %v", b, err)
	}
	if log.count("a bug") != 1 {
		t.Error("the panic was not logged")
	}
}

// TestOutOfDescriptors takes every descriptor of the process away: the
// listener must pause, say so once, and go on when there are some again.
func TestOutOfDescriptors(t *testing.T) {
	handled := make(chan struct{}, 10)
	s := &tcpserver.Server{Handler: func(_ context.Context, c *net.TCPConn) {
		_ = c.Close()
		handled <- struct{}{}
	}}
	addr, log, _ := serve(t, s)
	c := dial(t, addr) // so that the poller and all else is set up
	<-handled
	peer, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(peer)
	_ = c.Close()

	release := takeAllDescriptors(t)
	at := s4(t, addr)
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
