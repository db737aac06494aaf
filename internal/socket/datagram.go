package socket

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// receiveBuffer is the receive buffer of a socket of many flows, in bytes. Without CAP_NET_ADMIN the
// kernel limits it to net.core.rmem_max.
const receiveBuffer = 4 << 20

// ListenDatagrams opens a UDP socket on addr ("host:port"; without a host on all addresses of both
// families).
func ListenDatagrams(ctx context.Context, addr string) (*net.UDPConn, error) {
	network := "udp"
	if ap, err := netip.ParseAddrPort(addr); err == nil && ap.Addr().Is4() {
		network = "udp4" // see Listen
	}
	var lc net.ListenConfig
	c, err := lc.ListenPacket(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil //nolint:errcheck,forcetypeassert // "udp" gives no other
}

// DetachDatagrams takes a socket out of package net, and enables reporting of each datagram's destination
// address. It always closes c.
func DetachDatagrams(c *net.UDPConn) (fd int, is4 bool, err error) {
	defer func() { _ = c.Close() }()
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, false, err
	}
	cerr := raw.Control(func(s uintptr) {
		fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0)
		err = os.NewSyscallError("dup", err)
	})
	if cerr != nil {
		err = cerr
	}
	if err != nil {
		return -1, false, err
	}
	if is4, err = prepareDatagrams(fd); err != nil {
		_ = unix.Close(fd)
		return -1, false, err
	}
	return fd, is4, nil
}

// prepareDatagrams sets the options of a socket of many flows.
func prepareDatagrams(fd int) (is4 bool, err error) {
	family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return false, os.NewSyscallError("getsockopt", err)
	}
	if set(fd, option{"SO_RCVBUFFORCE", unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer}) != nil {
		_ = set(fd, option{"SO_RCVBUF", unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer})
	}
	is4 = family == unix.AF_INET
	if err := unix.SetNonblock(fd, true); err != nil {
		return is4, os.NewSyscallError("fcntl", err)
	}
	if err := fragment(fd, is4); err != nil {
		return is4, err
	}
	if is4 {
		return is4, set(fd, option{"IP_PKTINFO", unix.IPPROTO_IP, unix.IP_PKTINFO, 1})
	}
	return is4, set(fd, option{"IPV6_RECVPKTINFO", unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1})
}

// fragment lets IP fragment datagrams that are too large for the path.
func fragment(fd int, is4 bool) error {
	if is4 {
		return set(fd, option{"IP_MTU_DISCOVER", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT})
	}
	// A socket of both families sends by IPv4, too.
	return set(fd, option{"IPV6_MTU_DISCOVER", unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DONT},
		option{"IP_MTU_DISCOVER", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT})
}

// ConnectDatagrams returns a UDP socket that is connected to an address.
func ConnectDatagrams(to netip.AddrPort) (fd int, err error) {
	return connectDatagrams(netip.AddrPort{}, to, func(fd int) error { return fragment(fd, to.Addr().Is4()) })
}

// ConnectDatagrams returns a UDP socket from claim to service, whose packets carry mark. Both must be of
// one family. Like [TransparentDialer.Connect] it falls back to other ports, because another socket
// without SO_REUSEADDR may have the port on all addresses. The caller owns the descriptor.
func (d *TransparentDialer) ConnectDatagrams(claim, service netip.AddrPort, mark uint32) (fd int, rung Rung, err error) {
	return d.climb(claim, func() (int, Rung, error) {
		fd, err := d.connectDatagrams(claim, service, mark, boundPort)
		return fd, Exact, err
	}, func() (int, error) {
		return d.connectDatagrams(claim, service, mark, anyPort)
	})
}

func (d *TransparentDialer) connectDatagrams(claim, service netip.AddrPort, mark uint32, by portChoice) (int, error) {
	from := netip.AddrPortFrom(scoped(claim.Addr()), claim.Port())
	if by == anyPort {
		from = netip.AddrPortFrom(from.Addr(), 0)
	}
	fd, err := connectDatagrams(from, service, func(fd int) error {
		return prepare(fd, service.Addr().Is4(), mark, by, claim.Port())
	})
	if err != nil {
		return -1, err
	}
	switch source := Local(fd); {
	case source.Addr() != from.Addr():
		_ = unix.Close(fd)
		return -1, fmt.Errorf("%w: %s became %s", ErrClaim, claim.Addr(), source.Addr())
	case source == service:
		_ = unix.Close(fd)
		return -1, fmt.Errorf("%w: %s is the service", ErrClaim, source)
	}
	discard(fd)
	return fd, nil
}

func connectDatagrams(source, to netip.AddrPort, prepare func(fd int) error) (fd int, err error) {
	family := unix.AF_INET6
	if to.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
			fd = -1
		}
	}()
	if err := prepare(fd); err != nil {
		return fd, err
	}
	if source.IsValid() {
		if errno := withAddr(unix.SYS_BIND, fd, source); errno != 0 {
			return fd, os.NewSyscallError("bind", errno)
		}
	}
	if errno := withAddr(unix.SYS_CONNECT, fd, to); errno != 0 {
		return fd, os.NewSyscallError("connect", errno)
	}
	return fd, nil
}

// discard drops datagrams from other sources that have arrived between bind(2) and connect(2).
func discard(fd int) {
	var b [1]byte
	for {
		if _, _, err := unix.Recvfrom(fd, b[:], unix.MSG_DONTWAIT); err != nil && err != syscall.EINTR { //nolint:errorlint // an errno
			return
		}
	}
}
