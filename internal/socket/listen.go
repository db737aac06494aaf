package socket

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Listen listens on addr ("host:port"; without a host on all addresses of both families).
// Accepted sockets inherit the options of a socket of [Connect] (tcp(7)), which saves those
// system calls for each connection.
//
// Multipath TCP stays off: its sockets can be neither spliced at full speed nor
// asked for TCP_INFO.
func Listen(ctx context.Context, addr string, alive net.KeepAliveConfig) (*net.TCPListener, error) {
	lc := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, raw syscall.RawConn) (err error) {
		cerr := raw.Control(func(s uintptr) { err = setCommon(int(s), alive) })
		if cerr != nil {
			return cerr
		}
		return err
	}}
	lc.SetMultipathTCP(false)
	network := "tcp"
	if ap, err := netip.ParseAddrPort(addr); err == nil && ap.Addr().Is4() {
		network = "tcp4" // else 0.0.0.0 is the addresses of both families to package net
	}
	l, err := lc.Listen(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil //nolint:errcheck,forcetypeassert // "tcp" gives no other
}

// Accept accepts a connection from a non-blocking listener and returns the address of the
// other end. It returns the errors of accept(2) unchanged.
func Accept(listener int) (fd int, from netip.AddrPort, err error) {
	var a Sockaddr
	n := uint32(len(a))
	r, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&n)),
		unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, netip.AddrPort{}, errno
	}
	return int(r), a.AddrPort(), nil
}

// Prepare sets the options of [Listen] on a listener that another process opened.
func Prepare(l *net.TCPListener, alive net.KeepAliveConfig) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(s uintptr) {
		if err = setCommon(int(s), alive); err == nil && !alive.Enable {
			err = set(int(s), option{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0})
		}
	})
	if cerr != nil {
		return cerr
	}
	return err
}
