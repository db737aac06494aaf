package docker

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"portredirector/internal/ports"
)

// listener is a listening TCP socket or an unconnected UDP socket of this network namespace.
type listener struct {
	at     netip.AddrPort
	cookie uint64 // the kernel gives each socket another one
}

// Numbers of the kernel, include/uapi/linux/sock_diag.h, inet_diag.h and
// include/net/tcp_states.h.
const (
	sockDiagByFamily = 20
	stateClose       = 7 // of UDP sockets that are not connected
	stateListen      = 10
	requestSize      = 56 // struct inet_diag_req_v2
	responseSize     = 72 // struct inet_diag_msg
)

// asked selects the sockets of one protocol.
type asked struct {
	protocol ports.Protocol
	number   byte // of the protocol
	state    uint32
}

// listeners returns a sorted list of the sockets that listen on some ports. It skips a protocol
// without ports.
func listeners(some map[ports.Port]bool) ([]listener, error) {
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	var list []listener
	for _, of := range []asked{{ports.TCP, unix.IPPROTO_TCP, stateListen}, {ports.UDP, unix.IPPROTO_UDP, stateClose}} {
		if !of.in(some) {
			continue
		}
		found, err := of.list(conn)
		if err != nil {
			return nil, fmt.Errorf("list listening sockets: %w", err)
		}
		for _, l := range found {
			if some[ports.Port{Protocol: of.protocol, Number: l.at.Port()}] {
				list = append(list, l)
			}
		}
	}
	slices.SortFunc(list, func(a, b listener) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		return int(a.cookie) - int(b.cookie) //nolint:gosec // any order that stays the same
	})
	return list, nil
}

// in reports whether any port belongs to the protocol.
func (a asked) in(some map[ports.Port]bool) bool {
	for p := range some {
		if p.Protocol == a.protocol {
			return true
		}
	}
	return false
}

// list lists the sockets of both families.
func (a asked) list(conn *netlink.Conn) (list []listener, err error) {
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		request := make([]byte, requestSize)
		request[0], request[1] = family, a.number
		binary.NativeEndian.PutUint32(request[4:], 1<<a.state)
		answers, err := conn.Execute(netlink.Message{
			Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request | netlink.Dump},
			Data:   request,
		})
		if err != nil {
			return nil, err
		}
		for _, answer := range answers {
			if l, ok := parseListener(answer.Data); ok {
				list = append(list, l)
			}
		}
	}
	return list, nil
}

// parseListener reads a struct inet_diag_msg.
func parseListener(b []byte) (l listener, ok bool) {
	if len(b) < responseSize {
		return l, false
	}
	const port, source, cookie = 4, 8, 44
	addr := netip.AddrFrom16([16]byte(b[source : source+16]))
	if b[0] == unix.AF_INET {
		addr = netip.AddrFrom4([4]byte(b[source : source+4]))
	}
	l.at = netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[port:]))
	l.cookie = binary.NativeEndian.Uint64(b[cookie:])
	return l, true
}
