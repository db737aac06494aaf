package testnet

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// nobody is a hardware address that no interface has.
var nobody = net.HardwareAddr{0x02, 0, 0, 0, 0, 0xff}

// Lose drops all packets that the host sends to a neighbor on one of its interfaces. Interfaces and routes stay as they are, and
// no program is told. When both hosts lose each other, it is as if a cable between two switches were cut. Regain ends it.
func (h *Host) Lose(ifname string, neighbor netip.Addr) error {
	return h.withNeighbor(ifname, neighbor, netlink.NeighSet)
}

// Regain ends what [Host.Lose] began.
func (h *Host) Regain(ifname string, neighbor netip.Addr) error {
	return h.withNeighbor(ifname, neighbor, netlink.NeighDel)
}

// withNeighbor runs fn in the host with the entry that leads to nobody.
func (h *Host) withNeighbor(ifname string, neighbor netip.Addr, fn func(*netlink.Neigh) error) error {
	return h.withLink(ifname, func(link netlink.Link) error {
		err := fn(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: neighbor.AsSlice(), HardwareAddr: nobody,
		})
		if err != nil {
			return fmt.Errorf("neighbor %s: %w", neighbor, err)
		}
		return nil
	})
}
