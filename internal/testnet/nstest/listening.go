package nstest

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"portredirector/internal/testnet"
)

// WaitListening waits until a program on the host listens at addr, or at all addresses. It reads the kernel's table and does not
// connect, so the program notices nothing.
func WaitListening(tb testing.TB, h *testnet.Host, addr netip.AddrPort) {
	tb.Helper()
	var have []netip.AddrPort
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		err := h.Do(func() (err error) {
			have, err = listeners()
			return err
		})
		if err != nil {
			tb.Fatalf("listeners of %s: %v", h.Name, err)
		}
		for _, l := range have {
			if takes(l, addr) {
				return
			}
		}
	}
	tb.Fatalf("nothing listens at %v on %s; there is %v", addr, h.Name, have)
}

// takes reports whether a listener accepts the connections to addr. A listener at [::] accepts those to IPv4 addresses too.
func takes(listener, addr netip.AddrPort) bool {
	if listener.Port() != addr.Port() {
		return false
	}
	own, wanted := listener.Addr().Unmap(), addr.Addr().Unmap()
	return own == wanted || own == netip.IPv6Unspecified() || own == netip.IPv4Unspecified() && wanted.Is4()
}

// listeners returns the addresses of all TCP listeners in the namespace of the calling thread, by sock_diag(7). Reading
// /proc/net/tcp takes a hundred times as long, since the kernel walks its table of connections.
func listeners() ([]netip.AddrPort, error) {
	var all []netip.AddrPort
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
		req.AddRawData(diagRequest(family))
		answers, err := req.Execute(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY)
		if err != nil {
			return nil, fmt.Errorf("inet_diag: %w", err)
		}
		for _, a := range answers {
			addr, err := diagSource(a)
			if err != nil {
				return nil, err
			}
			all = append(all, addr)
		}
	}
	return all, nil
}

// diagRequest is a struct inet_diag_req_v2 that asks for the listeners of a family.
func diagRequest(family byte) []byte {
	const size, states, listening = 56, 4, 10 // TCP_LISTEN
	req := make([]byte, size)
	req[0], req[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(req[states:], 1<<listening)
	return req
}

// diagSource returns the address in a struct inet_diag_msg.
func diagSource(msg []byte) (netip.AddrPort, error) {
	const port, addr, end = 4, 8, 24
	if len(msg) < end {
		return netip.AddrPort{}, fmt.Errorf("inet_diag: answer of %d bytes", len(msg))
	}
	ip := netip.AddrFrom16([16]byte(msg[addr:end]))
	if msg[0] == unix.AF_INET {
		ip = netip.AddrFrom4([4]byte(msg[addr : addr+4]))
	}
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(msg[port:])), nil
}
