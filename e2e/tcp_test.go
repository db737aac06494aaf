package e2e_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// patience bounds the time in which a test uses a connection.
const patience = 30 * time.Second

// listen announces in a host for the time of the test.
func listen(t *testing.T, h *testnet.Host, addr string) *net.TCPListener {
	t.Helper()
	l, err := h.Listen(addrPort(t, addr))
	nstest.Must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// accept waits for a connection, and closes it at the end of the test.
func accept(t *testing.T, l *net.TCPListener) *net.TCPConn {
	t.Helper()
	nstest.Must(t, l.SetDeadline(time.Now().Add(patience)))
	c, err := l.AcceptTCP()
	nstest.Must(t, err)
	return forTest(t, c)
}

// dial connects from a host. The connection is closed at the end of the test.
func dial(t *testing.T, h *testnet.Host, to netip.AddrPort) *net.TCPConn {
	t.Helper()
	c, err := h.Dial(t.Context(), netip.AddrPort{}, to)
	nstest.Must(t, err)
	return forTest(t, c)
}

// dialFrom connects from a local port that other connections of the peer may have, too.
func dialFrom(p peer, from, to netip.AddrPort) (c *net.TCPConn, err error) {
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		controlErr := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		})
		return errors.Join(controlErr, err)
	}}
	err = p.Do(func() (err error) {
		c, err = dialer.DialTCP(context.Background(), "tcp", from, to)
		return err
	})
	return c, err
}

// forTest limits a connection to the time of the test.
func forTest(t *testing.T, c *net.TCPConn) *net.TCPConn {
	t.Helper()
	t.Cleanup(func() { _ = c.Close() })
	nstest.Must(t, c.SetDeadline(time.Now().Add(patience)))
	return c
}

// reset closes a connection by RST.
func reset(t *testing.T, c *net.TCPConn) {
	t.Helper()
	nstest.Must(t, c.SetLinger(0))
	nstest.Must(t, c.Close())
}

// wantReset waits until c is reset. It neither reads nor writes, because a write could provoke the reset. No other code may use c
// meanwhile.
func wantReset(t *testing.T, c *net.TCPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	nstest.Must(t, err, c.SetReadDeadline(time.Now().Add(patience)))
	info := new(unix.TCPInfo)
	var pending int
	var infoErr, pendingErr error
	err = raw.Read(func(fd uintptr) (done bool) {
		info, infoErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if infoErr != nil || info.State != unix.BPF_TCP_CLOSE {
			return infoErr != nil
		}
		pending, pendingErr = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		return true
	})
	if err := errors.Join(err, infoErr, pendingErr); err != nil {
		t.Fatalf("no reset came: %v; the connection is in state %d", err, info.State)
	}
	// The kernel says EPIPE where a FIN had come before, and nothing where both ends sent one.
	if errno := syscall.Errno(pending); !isReset(errno) {
		t.Fatalf("the connection was closed with %q, want a reset", errno)
	}
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func localAddr(c net.Conn) netip.AddrPort  { return plain(c.LocalAddr()) }
func remoteAddr(c net.Conn) netip.AddrPort { return plain(c.RemoteAddr()) }

func plain(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// addrPort parses an address and port, also as other programs print it: without the brackets around an IPv6 address.
func addrPort(t *testing.T, s string) netip.AddrPort {
	t.Helper()
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasPrefix(s, "[") {
		s = net.JoinHostPort(s[:i], s[i+1:])
	}
	a, err := netip.ParseAddrPort(s)
	nstest.Must(t, err)
	return a
}
