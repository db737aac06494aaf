package route

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sourceSocket finds the source address that the kernel chooses for a destination. It connects
// a UDP socket, which sends nothing.
type sourceSocket struct {
	fd     int
	family family
}

// openSourceSocket opens a socket for a family.
func openSourceSocket(f family) (sourceSocket, error) {
	fd, err := unix.Socket(int(f), unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	return sourceSocket{fd, f}, err
}

// ask returns the source for an address, or the zero value if there is no route.
func (s sourceSocket) ask(to netip.Addr) netip.Addr {
	const discard = 9 // any port
	if err := unix.Connect(s.fd, sockaddr(netip.AddrPortFrom(to, discard))); err != nil {
		return netip.Addr{}
	}
	defer s.disconnect()
	local, err := unix.Getsockname(s.fd)
	if err != nil {
		return netip.Addr{}
	}
	switch a := local.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(a.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(a.Addr)
	default:
		return netip.Addr{}
	}
}

// disconnect makes the kernel choose again at the next connect(2).
func (s sourceSocket) disconnect() {
	none := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, _ = unix.RawSyscall(unix.SYS_CONNECT, uintptr(s.fd), uintptr(unsafe.Pointer(&none)), unsafe.Sizeof(none))
}

// sockaddr converts an address for system calls.
func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}
