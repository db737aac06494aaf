package route

import (
	"encoding/binary"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// socketBinding is how a program of this machine has bound a UDP port.
type socketBinding struct {
	there      bool
	anyAddress bool // to 0.0.0.0 or ::
	dual       bool // by an IPv6 socket that takes IPv4, too
}

// Numbers of the kernel, include/uapi/linux/sock_diag.h and inet_diag.h.
const (
	sockDiagByFamily = 20
	diagRequestLen   = 56 // struct inet_diag_req_v2
	diagNoCookie     = 0xffffffff
	loopbackIndex    = 1
)

// askSocket asks the kernel which socket would get a datagram from claim to service
// (sock_diag(7)). A kernel that cannot say has none.
func askSocket(claim netip.Addr, service netip.AddrPort) socketBinding {
	const claimPort = 1 // no flow comes from it
	request := nl.NewNetlinkRequest(sockDiagByFamily, 0)
	request.AddRawData(diagRequest(netip.AddrPortFrom(claim, claimPort), service))
	answers, err := request.Execute(unix.NETLINK_SOCK_DIAG, sockDiagByFamily)
	if err != nil || len(answers) == 0 {
		return socketBinding{}
	}
	return decodeSocket(answers[0], service.Addr())
}

// diagRequest encodes the question. Source and destination are those of the datagram
// (udp_dump_one in net/ipv4/udp_diag.c).
func diagRequest(from, to netip.AddrPort) []byte {
	family := byte(unix.AF_INET6)
	if to.Addr().Is4() {
		family = unix.AF_INET
	}
	b := []byte{family, unix.IPPROTO_UDP, 0, 0}
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
