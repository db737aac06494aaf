package route

import (
	"net"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// family is an address family, by its number in the kernel.
type family int

const (
	ipv4 family = unix.AF_INET
	ipv6 family = unix.AF_INET6
)

var families = []family{ipv4, ipv6}

// flag returns the family's option to ip(8).
func (f family) flag() string {
	if f == ipv4 {
		return "4"
	}
	return "6"
}

// nft returns the family's name in nft(8).
func (f family) nft() string {
	if f == ipv4 {
		return "ip"
	}
	return "ip6"
}

// nftFamily returns the family's number in nftables.
func (f family) nftFamily() nftables.TableFamily {
	if f == ipv4 {
		return nftables.TableFamilyIPv4
	}
	return nftables.TableFamilyIPv6
}

// everywhere returns the prefix of all addresses.
func (f family) everywhere() *net.IPNet {
	if f == ipv4 {
		return &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	}
	return &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
}
