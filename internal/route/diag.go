package route

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// socketBinding describes how a program of this machine has bound a UDP port.
type socketBinding struct {
	there      bool
	anyAddress bool // to 0.0.0.0 or ::
	dual       bool // an IPv6 socket that also takes IPv4
}

// Numbers of the kernel, include/uapi/linux/sock_diag.h and inet_diag.h.
const (
	sockDiagByFamily = 20
	diagRequestLen   = unix.SizeofNlMsghdr + 56 // struct inet_diag_req_v2
	diagNoCookie     = 0xffffffff
	loopbackIndex    = 1
)

// socketDiag queries the kernel about sockets (sock_diag(7)). The zero value is not open.
type socketDiag struct{ fd int }

// openSocketDiag opens a netlink socket for queries.
func openSocketDiag() (socketDiag, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	return socketDiag{fd}, err
}

// ask returns the binding of the socket that would get a datagram from claim to service. It
// returns the zero value if the kernel cannot tell.
func (d socketDiag) ask(claim netip.Addr, service netip.AddrPort) socketBinding {
	const claimPort = 1 // not used by flows
	if err := unix.Send(d.fd, diagRequest(netip.AddrPortFrom(claim, claimPort), service), 0); err != nil {
		return socketBinding{}
	}
	// The kernel has answered before send(2) returned.
	var answer [4096]byte
	n, _, err := unix.Recvfrom(d.fd, answer[:], unix.MSG_DONTWAIT)
	if err != nil || n < unix.SizeofNlMsghdr || binary.NativeEndian.Uint16(answer[4:]) != sockDiagByFamily {
		return socketBinding{}
	}
	return decodeSocket(answer[unix.SizeofNlMsghdr:n], service.Addr())
}

// diagRequest encodes a query. Source and destination are those of the datagram
// (udp_dump_one in net/ipv4/udp_diag.c).
func diagRequest(from, to netip.AddrPort) []byte {
	family := byte(unix.AF_INET6)
	if to.Addr().Is4() {
		family = unix.AF_INET
	}
	b := binary.NativeEndian.AppendUint32(make([]byte, 0, diagRequestLen), diagRequestLen)
	b = binary.NativeEndian.AppendUint16(b, sockDiagByFamily)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = append(b, make([]byte, 8)...) // sequence and port
	b = append(b, family, unix.IPPROTO_UDP, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, ^uint32(0)) // all states
	b = binary.BigEndian.AppendUint16(b, from.Port())
	b = binary.BigEndian.AppendUint16(b, to.Port())
	for _, a := range []netip.Addr{from.Addr(), to.Addr()} {
		var field [16]byte
		copy(field[:], a.AsSlice())
		b = append(b, field[:]...)
	}
	b = binary.NativeEndian.AppendUint32(b, loopbackIndex)
	b = binary.NativeEndian.AppendUint32(b, diagNoCookie)
	return binary.NativeEndian.AppendUint32(b, diagNoCookie)
}

// decodeSocket reads the head of a struct inet_diag_msg about the socket of an address.
func decodeSocket(msg []byte, service netip.Addr) socketBinding {
	const source = 8 // of the socket
	if len(msg) < source+16 {
		return socketBinding{}
	}
	s := socketBinding{there: true, dual: msg[0] == unix.AF_INET6 && service.Is4()}
	var bound netip.Addr
	if msg[0] == unix.AF_INET {
		bound = netip.AddrFrom4([4]byte(msg[source:]))
	} else {
		bound = netip.AddrFrom16([16]byte(msg[source:]))
	}
	s.anyAddress = bound.Unmap().IsUnspecified()
	return s
}
