package dial

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
)

// Resolver finds addresses and SRV records. A *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// Addresses resolves a host. The order of the result suits [Dialer.Race]: the address
// families alternate.
func Addresses(ctx context.Context, r Resolver, host string, port uint16) (addrs []netip.AddrPort, err error) {
	found, err := r.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	for _, a := range interleave(found) {
		if at := netip.AddrPortFrom(a, port); !slices.Contains(addrs, at) {
			addrs = append(addrs, at)
		}
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("%s has no address", host)
	}
	return addrs, nil
}

// interleave orders addresses for a race: the families alternate, beginning with that
// of the first address (RFC 8305, section 4).
func interleave(addrs []netip.Addr) []netip.Addr {
	if len(addrs) == 0 {
		return nil
	}
	var families [2][]netip.Addr
	for _, a := range addrs {
		i := 0
		if a.Is4() != addrs[0].Is4() {
			i = 1
		}
		families[i] = append(families[i], a)
	}
	list := make([]netip.Addr, 0, len(addrs))
	for i := 0; len(list) < len(addrs); i++ {
		for _, f := range families {
			if i < len(f) {
				list = append(list, f[i])
			}
		}
	}
	return list
}

// SplitHostPort splits "host:port". The port must be a number.
func SplitHostPort(name string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(name)
	if err != nil {
		return "", 0, err
	}
	number, err := strconv.ParseUint(text, 10, 16)
	return host, uint16(number), err
}
