package claim

import (
	"net/netip"
	"slices"
)

// refusal is a prefix that nobody may claim without permission.
type refusal struct {
	prefix netip.Prefix
	what   string // the kind of address, for the error
	never  bool   // no permission helps: no connection can come from it
}

const loopback = "loopback"

// refused4 and refused6 hold on every machine, the longest prefixes first. These addresses
// could borrow local trust, or make no sense as a TCP peer. At bind(2) the kernel replaces
// unspecified, multicast and broadcast addresses by an own one (__inet_bind in
// net/ipv4/af_inet.c), or refuses them, so no permission helps there.
var (
	refused4 = []refusal{
		{prefix: netip.MustParsePrefix("255.255.255.255/32"), what: "the broadcast address", never: true}, // RFC 919
		{prefix: netip.MustParsePrefix("0.0.0.0/32"), what: "unspecified", never: true},
		// RFC 3927. Services that hosts trust live here, such as a cloud's
		// metadata at 169.254.169.254.
		{prefix: netip.MustParsePrefix("169.254.0.0/16"), what: "link-local"},
		// RFC 1122, 3.2.1.3: "this host on this network". Newer kernels route all
		// but the first.
		{prefix: netip.MustParsePrefix("0.0.0.0/8"), what: "an address of \"this network\""},
		{prefix: netip.MustParsePrefix("127.0.0.0/8"), what: loopback},
		{prefix: netip.MustParsePrefix("224.0.0.0/4"), what: "multicast", never: true},
	}
	refused6 = []refusal{
		{prefix: netip.MustParsePrefix("::/128"), what: "unspecified", never: true},
		{prefix: netip.MustParsePrefix("::1/128"), what: loopback},
		// RFC 4291, 2.5.5.1, deprecated. Some programs still read ::127.0.0.1 as
		// 127.0.0.1, and nobody connects from there.
		{prefix: netip.MustParsePrefix("::/96"), what: "an IPv4-compatible address"},
		{prefix: netip.MustParsePrefix("fe80::/10"), what: "link-local"},
		{prefix: netip.MustParsePrefix("ff00::/8"), what: "multicast", never: true},
	}

	// Not refused: site-local fec0::/10, which is unicast like any other (RFC 4291,
	// 2.5.7) and at worst private, as 10.0.0.0/8 is; 240.0.0.0/4, which Linux
	// routes and some networks use; the documentation prefixes.
)

// nat64 and sixToFour are prefixes whose addresses embed an IPv4 address (RFC 6052, 2.1;
// RFC 3056, 2). Peers do come from there, so the prefixes are not refused.
var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")
)

// embedded holds the IPv4 refusals within nat64 and sixToFour, where both RFCs forbid them
// (RFC 6052, 3.1; RFC 3056, 2). A program that looks inside might take 64:ff9b::7f00:1 for
// loopback.
var embedded = func() (all []refusal) {
	for _, r := range refused4 {
		all = append(all, refusal{prefix: embed(nat64, r.prefix), what: "the NAT64 form of what is " + r.what},
			refusal{prefix: embed(sixToFour, r.prefix), what: "the 6to4 form of what is " + r.what})
	}
	slices.SortFunc(all, func(a, b refusal) int { return b.prefix.Bits() - a.prefix.Bits() })
	return all
}()

// embed returns the addresses that embed those of p after the bits of outer.
func embed(outer, p netip.Prefix) netip.Prefix {
	a, inner := outer.Addr().As16(), p.Addr().As4()
	copy(a[outer.Bits()/8:], inner[:])
	return netip.PrefixFrom(netip.AddrFrom16(a), outer.Bits()+p.Bits())
}

// builtIn returns the longest built-in refusal for a, or the zero refusal.
func builtIn(a netip.Addr) refusal {
	list := refused4
	switch {
	case a.Is4():
	case nat64.Contains(a) || sixToFour.Contains(a):
		list = embedded
	default:
		list = refused6
	}
	for i := range list { // without copies: this is most of the time of Check
		if list[i].prefix.Contains(a) {
			return list[i]
		}
	}
	return refusal{}
}

// isLoopback reports whether p, which is masked, is loopback or part of it.
func isLoopback(p netip.Prefix) bool { return builtIn(p.Addr()).what == loopback }
