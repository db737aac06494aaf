package socket

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Local returns the address of a socket's own end. It never maps an IPv4 address into
// IPv6, whatever the listener.
func Local(fd int) netip.AddrPort {
	var a Sockaddr
	n := uint32(len(a))
	_, _, errno := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&n)))
	if errno != 0 {
		return netip.AddrPort{}
	}
	return a.AddrPort()
}

// Remote returns the address of a socket's other end, or false if it has none.
func Remote(fd int) (netip.AddrPort, bool) {
	var a Sockaddr
	n := uint32(len(a))
	_, _, errno := unix.RawSyscall(unix.SYS_GETPEERNAME, uintptr(fd), uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&n)))
	return a.AddrPort(), errno == 0
}

// Sockaddr is the kernel's form of an address: a sockaddr_in (ip(7)) or sockaddr_in6 (ipv6(7)).
type Sockaddr [unix.SizeofSockaddrInet6]byte

// NewSockaddr converts an address to the kernel's form, and returns its length.
func NewSockaddr(of netip.AddrPort) (a Sockaddr, n uintptr) {
	binary.BigEndian.PutUint16(a[2:], of.Port())
	if of.Addr().Is4() {
		ip := of.Addr().As4()
		binary.NativeEndian.PutUint16(a[:], unix.AF_INET)
		copy(a[4:], ip[:])
		return a, unix.SizeofSockaddrInet4
	}
	ip := of.Addr().As16()
	binary.NativeEndian.PutUint16(a[:], unix.AF_INET6)
	copy(a[8:], ip[:])
	binary.NativeEndian.PutUint32(a[24:], zone(of.Addr().Zone()))
	return a, unix.SizeofSockaddrInet6
}

// AddrPort converts an address from the kernel's form. It returns the zero value for other families.
func (a *Sockaddr) AddrPort() netip.AddrPort {
	port := binary.BigEndian.Uint16(a[2:])
	switch binary.NativeEndian.Uint16(a[:]) {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(a[4:8])), port)
	case unix.AF_INET6:
		ip := netip.AddrFrom16([16]byte(a[8:24])).Unmap()
		if zone := binary.NativeEndian.Uint32(a[24:]); zone != 0 && ip.Is6() {
			ip = ip.WithZone(strconv.FormatUint(uint64(zone), 10))
		}
		return netip.AddrPortFrom(ip, port)
	}
	return netip.AddrPort{}
}

// zone returns the number of an IPv6 zone, which may be an interface's name.
func zone(name string) uint32 {
	if name == "" {
		return 0
	}
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n)
	}
	return interfaceIndex(name)
}

// Zone returns the number of the IPv6 zone, or 0.
func (a *Sockaddr) Zone() uint32 {
	if binary.NativeEndian.Uint16(a[:]) != unix.AF_INET6 {
		return 0
	}
	return binary.NativeEndian.Uint32(a[24:])
}
