package probe

import (
	"errors"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"portredirector/internal/socket"
)

// datagram opens the socket of a probe by UDP and sends an empty datagram.
func (p Path) datagram() (fd int, err error) {
	family := unix.AF_INET6
	if p.To.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			socket.Close(fd)
		}
	}()
	if err := p.prepare(fd); err != nil {
		return fd, err
	}
	if err := countAll(fd); err != nil {
		return fd, err
	}
	if err := unix.Bind(fd, sockaddr(p.From)); err != nil {
		return fd, os.NewSyscallError("bind", err)
	}
	if err := unix.Connect(fd, sockaddr(p.To)); err != nil {
		return fd, os.NewSyscallError("connect", err)
	}
	err = os.NewSyscallError("send", unix.Send(fd, nil, 0))
	if errors.Is(err, syscall.EPERM) {
		err = nil // a filter dropped the datagram, so no answer will come
	}
	return fd, err
}

// countAll makes the kernel drop and count all datagrams for a socket.
func countAll(fd int) error {
	filter := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}
	program := unix.SockFprog{Len: 1, Filter: &filter}
	return os.NewSyscallError("setsockopt", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program))
}

// sockaddr converts an address for system calls.
func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}
