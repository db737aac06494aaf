package testnet

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// settleLimit bounds the time that the kernel takes for its work in the background, usually 2 ms.
const settleLimit = 5 * time.Second

// Settle waits until an interface carries packets and has its link-local address. The kernel does both in the background once
// both ends are up. A packet that is sent earlier is dropped, which costs a connection a second.
func (h *Host) Settle(ifname string) error {
	return h.withLink(ifname, func(link netlink.Link) error {
		return await("to be in operation", func() (bool, error) {
			link, err := netlink.LinkByIndex(link.Attrs().Index)
			if err != nil || !operates(link) {
				return false, err
			}
			disabled, err := os.ReadFile(sysctlPath("net/ipv6/conf/" + ifname + "/disable_ipv6"))
			if err != nil || strings.TrimSpace(string(disabled)) != "0" {
				return true, nil // the interface has no IPv6
			}
			return delivers(link, netip.Addr.IsLinkLocalUnicast)
		})
	})
}

// operates reports whether an interface carries packets. The state of a TUN device that is up is unknown.
func operates(link netlink.Link) bool {
	state := link.Attrs().OperState
	_, isTUN := link.(*netlink.Tuntap)
	return state == netlink.OperUp || isTUN && state == netlink.OperUnknown
}

// settleAddr waits until an IPv6 address of an interface can be used, which is once neighbors can find it.
func settleAddr(link netlink.Link, addr netip.Addr) error {
	return await("for address "+addr.String(), func() (bool, error) {
		return delivers(link, func(a netip.Addr) bool { return a == addr })
	})
}

// delivers reports whether the calling thread's namespace accepts packets to an IPv6 address of an interface that matches. It
// looks for the local route, which is the last thing that the kernel adds for an address.
func delivers(link netlink.Link, match func(netip.Addr) bool) (bool, error) {
	filter := &netlink.Route{Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, LinkIndex: link.Attrs().Index}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V6, filter,
		netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE|netlink.RT_FILTER_OIF)
	return err == nil && slices.ContainsFunc(routes, func(r netlink.Route) bool {
		if r.Dst == nil {
			return false
		}
		addr, ok := netip.AddrFromSlice(r.Dst.IP)
		return ok && match(addr)
	}), err
}

// await polls done until it reports true or fails.
func await(what string, done func() (bool, error)) error {
	for deadline := time.Now().Add(settleLimit); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if ok, err := done(); ok || err != nil {
			return err
		}
	}
	return fmt.Errorf("waited %v %s", settleLimit, what)
}
