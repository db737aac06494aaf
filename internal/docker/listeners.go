package docker

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// listener is a TCP socket that listens in this network namespace.
type listener struct {
	at     netip.AddrPort
	cookie uint64 // the kernel gives each socket another one
}

// Numbers of the kernel, include/uapi/linux/sock_diag.h, inet_diag.h and
// include/net/tcp_states.h.
const (
	sockDiagByFamily = 20
	stateListen      = 10
	requestSize      = 56 // struct inet_diag_req_v2
	responseSize     = 72 // struct inet_diag_msg
)

// listeners lists the sockets that listen on some ports, sorted.
func listeners(ports map[uint16]bool) ([]listener, error) {
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	var list []listener
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		request := make([]byte, requestSize)
		request[0], request[1] = family, unix.IPPROTO_TCP
		binary.NativeEndian.PutUint32(request[4:], 1<<stateListen)
		answers, err := conn.Execute(netlink.Message{
			Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request | netlink.Dump},
			Data:   request,
		})
		if err != nil {
			return nil, fmt.Errorf("list listening sockets: %w", err)
		}
		for _, a := range answers {
			if l, ok := parseListener(a.Data); ok && ports[l.at.Port()] {
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
