package testnet

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// AddRoute adds a route to dst via a neighbor of the host. The default routes are 0.0.0.0/0 and ::/0.
func (h *Host) AddRoute(dst netip.Prefix, via netip.Addr) error {
	err := h.Do(func() error {
		return netlink.RouteAdd(&netlink.Route{Dst: ipNet(dst.Masked()), Gw: via.AsSlice()})
	})
	if err != nil {
		return fmt.Errorf("route on %s to %s via %s: %w", h.Name, dst, via, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
