package limit

import "net/netip"

// SourcePrefix returns the prefix that counts as one source: an IPv4 address, or the
// /64 of an IPv6 address, because a single machine usually has a whole /64.
func SourcePrefix(a netip.Addr) netip.Prefix {
	a = a.Unmap()
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, _ := a.Prefix(bits) // drops the zone
	return p
}
