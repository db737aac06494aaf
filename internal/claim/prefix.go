package claim

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// ParsePrefix reads a prefix in CIDR notation, or an address, which is the prefix of
// its whole length.
//
// Host bits are cut off, as iptables, nginx and HAProxy do it, so that what "ip
// address" prints (127.0.0.1/8) can be pasted. An IPv4-mapped prefix is
// returned as IPv4, since that is how [Policy.Check] sees such addresses; one
// that reaches beyond them is an error.
func ParsePrefix(s string) (netip.Prefix, error) {
	p, err := parse(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	if a := p.Addr(); a.Is4In6() {
		if p.Bits() < mappedBits {
			return netip.Prefix{}, fmt.Errorf("%s is more than the IPv4-mapped addresses, which end at ::ffff:0:0/%d: "+
				"give the IPv4 and the IPv6 prefix each", s, mappedBits)
		}
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-mappedBits)
	}
	return p.Masked(), nil
}

// errNoPrefix is what is neither: package netip would tell of its own functions.
var errNoPrefix = errors.New("must be a prefix such as 203.0.113.0/24, or an address; names are not resolved")

// mappedBits is how many bits are before the IPv4 address in a mapped one.
const mappedBits = 96

func parse(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			_, why, _ := strings.Cut(err.Error(), "): ") // behind the function's name
			return netip.Prefix{}, fmt.Errorf("must be a prefix such as 203.0.113.0/24, or an address: %s", why)
		}
		return p, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, errNoPrefix
	}
	if a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%s: a claim has no zone", s)
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}
