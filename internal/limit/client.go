package limit

import "net/netip"

// Client is what counts as one client: an IPv4 address, or an IPv6 /64, of which a
// single machine has all addresses.
func Client(a netip.Addr) netip.Prefix {
	a = a.Unmap()
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, _ := a.Prefix(bits) // has no zone
	return p
}
