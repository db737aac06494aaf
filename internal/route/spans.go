package route

import (
	"cmp"
	"net/netip"
	"slices"

	"portredirector/internal/ports"
)

// span holds services on neighboring ports of one protocol and loopback address,
// which share an ip rule.
type span struct {
	addr        netip.Addr
	protocol    ports.Protocol
	first, last uint16
}

// spans is a set of services, sorted by address, protocol and port. No two spans touch,
// and no method changes the set.
type spans []span

// find returns the index of a service's span, or where it would be, and whether
// it is there.
func (ss spans) find(service ports.Endpoint) (int, bool) {
	return slices.BinarySearchFunc(ss, service, func(s span, service ports.Endpoint) int {
		switch c := cmp.Or(s.addr.Compare(service.Addr()), cmp.Compare(s.protocol, service.Protocol)); {
		case c != 0:
			return c
		case service.Port() < s.first:
			return 1
		case service.Port() > s.last:
			return -1
		}
		return 0
	})
}

// has reports whether a service is in the set.
func (ss spans) has(service ports.Endpoint) bool {
	_, ok := ss.find(service)
	return ok
}

// with returns ss and one more service.
func (ss spans) with(service ports.Endpoint) spans {
	i, ok := ss.find(service)
	if ok {
		return ss
	}
	s := span{service.Addr(), service.Protocol, service.Port(), service.Port()}
	alike := func(o span) bool { return o.addr == s.addr && o.protocol == s.protocol }
	from, to := i, i
	if i > 0 && alike(ss[i-1]) && ss[i-1].last+1 == s.first {
		s.first, from = ss[i-1].first, i-1
	}
	if i < len(ss) && alike(ss[i]) && s.last+1 == ss[i].first {
		s.last, to = ss[i].last, i+1
	}
	return slices.Replace(slices.Clone(ss), from, to, s)
}

// of returns the spans of family f.
func (ss spans) of(f family) spans {
	var list spans
	for _, s := range ss {
		if s.addr.Is4() == (f == ipv4) {
			list = append(list, s)
		}
	}
	return list
}

// addrs returns the addresses of family f, each once.
func (ss spans) addrs(f family) []netip.Addr {
	var list []netip.Addr
	for _, s := range ss.of(f) {
		list = append(list, s.addr)
	}
	return slices.Compact(list)
}

// speak reports whether the set has a service of the protocol at the address.
func (ss spans) speak(p ports.Protocol, a netip.Addr) bool {
	return slices.ContainsFunc(ss, func(s span) bool { return s.addr == a && s.protocol == p })
}
