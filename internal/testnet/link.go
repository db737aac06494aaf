package testnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Connect connects two hosts by a veth pair, which is up, has the addresses given and is ready for use. The interface on a is
// named after b and the other way round, so two hosts can be connected only once.
func Connect(a *Host, aAddrs []netip.Prefix, b *Host, bAddrs []netip.Prefix) error {
	if err := a.plug(b, ""); err != nil {
		return err
	}
	if err := errors.Join(a.SetUp(b.Name, aAddrs...), b.SetUp(a.Name, bAddrs...)); err != nil {
		return err
	}
	return errors.Join(a.Settle(b.Name), b.Settle(a.Name))
}

// AddAddr adds an address to an interface of the host.
func (h *Host) AddAddr(ifname string, addr netip.Prefix) error {
	return h.withLink(ifname, func(link netlink.Link) error {
		a := &netlink.Addr{IPNet: ipNet(addr)}
		if addr.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, a); err != nil {
			return fmt.Errorf("add address %s: %w", addr, err)
		}
		if addr.Addr().Is6() && link.Attrs().Flags&net.FlagUp != 0 {
			return settleAddr(link, addr.Addr())
		}
		return nil
	})
}

// plug creates the veth pair between h and peer, down and without addresses. The end on h is a port of bridge, unless that is
// empty.
func (h *Host) plug(peer *Host, bridge string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = peer.Name
	err := h.Do(func() error {
		if bridge != "" {
			master, err := netlink.LinkByName(bridge)
			if err != nil {
				return fmt.Errorf("find %s: %w", bridge, err)
			}
			attrs.MasterIndex = master.Attrs().Index
		}
		return peer.withFD(func(fd int) error {
			return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: h.Name, PeerNamespace: netlink.NsFd(fd)})
		})
	})
	if err != nil {
		return fmt.Errorf("connect %s and %s: %w", h.Name, peer.Name, err)
	}
	return nil
}

// SetUp sets an interface of the host up and gives it addresses.
func (h *Host) SetUp(ifname string, addrs ...netip.Prefix) error {
	if err := h.withLink(ifname, netlink.LinkSetUp); err != nil {
		return err
	}
	for _, addr := range addrs {
		if err := h.AddAddr(ifname, addr); err != nil {
			return err
		}
	}
	return nil
}

// withLink runs fn in the host with one of its interfaces.
func (h *Host) withLink(ifname string, fn func(netlink.Link) error) error {
	err := h.Do(func() error {
		link, err := netlink.LinkByName(ifname)
		if err != nil {
			return err
		}
		return fn(link)
	})
	if err != nil {
		return fmt.Errorf("interface %s of %s: %w", ifname, h.Name, err)
	}
	return nil
}
