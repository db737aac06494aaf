package tcpserver

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// Listen announces on addr ("host:port"; without a host on all addresses of
// both families); what is accepted there has the given keepalive. Multipath TCP stays off: its sockets can be neither
// spliced at full speed nor asked for TCP_INFO.
func Listen(ctx context.Context, addr string, alive net.KeepAliveConfig) (*net.TCPListener, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	if alive.Enable {
		lc.Control = keepAlive(alive)
	}
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

// keepAlive turns keepalive on for the listener, from which accepted sockets
// inherit it (tcp(7)): four system calls once, not for each connection.
func keepAlive(c net.KeepAliveConfig) func(string, string, syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) (err error) {
		set := func(fd, level, option, value int) {
			if err == nil {
				err = syscall.SetsockoptInt(fd, level, option, value)
			}
		}
		if cerr := raw.Control(func(s uintptr) {
			fd := int(s)
			set(fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1)
			set(fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, int(c.Idle/time.Second))
			set(fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, int(c.Interval/time.Second))
			set(fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, c.Count)
		}); cerr != nil {
			return cerr
		}
		return err
	}
}
