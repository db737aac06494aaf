package testnet

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Bridge gives the host an empty bridge with the addresses given, as container engines do for their containers.
func (h *Host) Bridge(name string, addrs ...netip.Prefix) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	err := h.Do(func() error { return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}) })
	if err != nil {
		return fmt.Errorf("bridge %s on %s: %w", name, h.Name, err)
	}
	return h.SetUp(name, addrs...)
}

// Attach joins guest to a bridge of the host, as a container engine does for a container. The interfaces are named as by
// [Connect]; the one on h is a port of the bridge and the one on guest has the addresses given. The guest has no route yet.
func (h *Host) Attach(bridge string, guest *Host, guestAddrs ...netip.Prefix) error {
	if err := h.plug(guest, bridge); err != nil {
		return err
	}
	if err := errors.Join(h.SetUp(guest.Name), guest.SetUp(h.Name, guestAddrs...)); err != nil {
		return err
	}
	return errors.Join(guest.Settle(h.Name), h.Settle(guest.Name), h.Settle(bridge))
}
