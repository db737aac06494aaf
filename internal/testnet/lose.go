package testnet

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// nobody is a hardware address that no interface has.
var nobody = net.HardwareAddr{0x02, 0, 0, 0, 0, 0xff}

// Lose has all that the host sends to a neighbour on one of its interfaces be lost on the way: no interface goes down, no route
// changes, and nobody is told. Regain ends it. With both hosts losing each other it is a cable that was cut somewhere between
// two switches.
func (h *Host) Lose(ifname string, neighbour netip.Addr) error {
	return h.withNeighbour(ifname, neighbour, netlink.NeighSet)
}

// Regain ends what [Host.Lose] began.
func (h *Host) Regain(ifname string, neighbour netip.Addr) error {
	return h.withNeighbour(ifname, neighbour, netlink.NeighDel)
}

// withNeighbour runs fn in the host with the entry that leads to nobody.
func (h *Host) withNeighbour(ifname string, neighbour netip.Addr, fn func(*netlink.Neigh) error) error {
	return h.withLink(ifname, func(link netlink.Link) error {
		err := fn(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: neighbour.AsSlice(), HardwareAddr: nobody,
		})
		if err != nil {
			return fmt.Errorf("neighbour %s: %w", neighbour, err)
		}
		return nil
	})
}
