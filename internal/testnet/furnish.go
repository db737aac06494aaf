package testnet

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/vishvananda/netlink"
)

// baseline is the settings of a new namespace, which are the same on every machine: a namespace may copy others from the machine
// (net.core.devconf_inherit_init_net). They apply to later interfaces as well. Duplicate address detection is off, so that an
// IPv6 address can be used at once.
var baseline = []struct{ dir, key, value string }{
	{"net/ipv4/conf", "forwarding", "0"},
	{"net/ipv4/conf", "rp_filter", "0"},
	{"net/ipv4/conf", "route_localnet", "0"},
	{"net/ipv4/conf", "src_valid_mark", "0"},
	{"net/ipv4/conf", "accept_local", "0"},
	{"net/ipv4/conf", "arp_ignore", "0"},
	{"net/ipv6/conf", "disable_ipv6", "0"},
	{"net/ipv6/conf", "forwarding", "0"},
	{"net/ipv6/conf", "accept_dad", "0"},
	{"net/ipv6/conf", "addr_gen_mode", "0"},
}

// furnish makes the bare namespace of the calling thread a host: the baseline holds, and the loopback interface is up.
func furnish() error {
	for _, b := range baseline {
		for _, dev := range []string{"all", "default", "lo"} {
			err := writeSysctl(b.dir+"/"+dev+"/"+b.key, b.value)
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel may lack IPv6
				return err
			}
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}
