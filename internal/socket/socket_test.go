package socket_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
)

var alive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

// accept waits for a connection.
func accept(t *testing.T, l *net.TCPListener) (fd int, from netip.AddrPort) {
	t.Helper()
	raw, err := l.SyscallConn()
	nstest.Must(t, err)
	for range 1000 {
		nstest.Must(t, raw.Control(func(s uintptr) { fd, from, err = socket.Accept(int(s)) }))
		if !errors.Is(err, syscall.EAGAIN) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	nstest.Must(t, err)
	return fd, from
}

// TestBothEnds checks the addresses and options of both ends of a connection.
func TestBothEnds(t *testing.T) {
	for listen, to := range map[string]string{
		"127.0.0.1:0": "127.0.0.1", "[::1]:0": "::1", "0.0.0.0:0": "127.0.0.1", ":0": "127.0.0.1", "[::]:0": "::1",
	} {
		l, err := socket.Listen(t.Context(), listen, alive)
		nstest.Must(t, err)
		defer l.Close()
		target := netip.AddrPortFrom(netip.MustParseAddr(to), l.Addr().(*net.TCPAddr).AddrPort().Port())
		d, err := socket.Connect(netip.AddrPortFrom(target.Addr(), 0), target, alive, nil)
		nstest.Must(t, err)
		nstest.Must(t, socket.Wait(t.Context(), d))
		a, from := accept(t, l)
		if local := socket.Local(d); local != from || socket.Local(a) != target {
			t.Errorf("%s: %s connected to %s, but %s was accepted at %s", listen, local, target, from, socket.Local(a))
		}
		for _, fd := range []int{a, d} {
			for _, o := range []struct{ level, option, want int }{
				{syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
				{syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 30},
				{syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 10},
				{syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 3},
				{syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1},
				{syscall.SOL_SOCKET, syscall.SO_OOBINLINE, 1},
			} {
				if got, err := syscall.GetsockoptInt(fd, o.level, o.option); err != nil || got != o.want {
					t.Errorf("%s: option %d of level %d is %d, %v", listen, o.option, o.level, got, err)
				}
			}
		}
		nstest.Must(t, socket.Send(a, []byte("hello")))
		socket.Close(a)
		c, err := socket.Conn(d)
		nstest.Must(t, err)
		if b, err := io.ReadAll(c); err != nil || string(b) != "hello" {
			t.Errorf("%s: read %q, %v", listen, b, err)
		}
		_ = c.Close()
	}
}

// TestAllIPv4Addresses checks that 0.0.0.0 listens on IPv4 only.
func TestAllIPv4Addresses(t *testing.T) {
	l, err := socket.Listen(t.Context(), "0.0.0.0:0", net.KeepAliveConfig{})
	nstest.Must(t, err)
	defer l.Close()
	if a := l.Addr().(*net.TCPAddr).AddrPort().Addr(); !a.Is4() {
		t.Errorf("it listens on %s", a)
	}
}

// TestRefused checks that Wait reports a failed connect, and Connect a failed prepare.
func TestRefused(t *testing.T) {
	fd, err := socket.Connect(netip.AddrPort{}, netip.MustParseAddrPort("127.0.0.1:1"), net.KeepAliveConfig{}, nil)
	nstest.Must(t, err)
	defer socket.Close(fd)
	if err := socket.Wait(t.Context(), fd); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v", err)
	}
	sorry := errors.New("sorry")
	if fd, err := socket.Connect(netip.AddrPort{}, netip.MustParseAddrPort("127.0.0.1:1"), net.KeepAliveConfig{}, func(int) error { return sorry }); fd >= 0 || !errors.Is(err, sorry) {
		t.Errorf("got %d, %v", fd, err)
	}
}

// TestReset checks that the other end sees a reset.
func TestReset(t *testing.T) {
	l, err := socket.Listen(t.Context(), "127.0.0.1:0", alive)
	nstest.Must(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	nstest.Must(t, err)
	defer c.Close()
	a, _ := accept(t, l)
	socket.Reset(a)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v", err)
	}
}
