package route

import (
	"fmt"
	"math/bits"
	"net/netip"
	"strings"
)

// Defaults of the numbers by which our state is known in the kernel.
const (
	// DefaultMark has the two bits of the packet mark that we use.
	DefaultMark = 0x30000000
	// DefaultTable is the first of the Tables routing tables among which each
	// server on a machine takes one.
	DefaultTable = 7700
	// Tables is how many servers one machine (one network namespace) can have.
	Tables = 32
	// Protocol is the routing protocol number on our rules and routes
	// (rtnetlink(7), rtm_protocol); it is how they are told from others.
	Protocol = 77

	// firstPriority is the ip rule priority of the first table. Ours come
	// early: a VPN's or a multi-uplink's rule must not catch the replies.
	firstPriority = 77
)

// Marks are the two bits of the packet mark that the tracked ways use.
type Marks struct {
	Route uint32 // M: an ip rule routes packets with it to this machine
	Track uint32 // C: no rule routes it; nftables turns it into M on replies
}

// ParseMarks splits a mask of two bits: the higher is Route, the lower Track.
func ParseMarks(mask uint32) (Marks, error) {
	if bits.OnesCount32(mask) != 2 {
		return Marks{}, fmt.Errorf("mark %#x has %d bits: it must have two", mask, bits.OnesCount32(mask))
	}
	track := mask & -mask
	return Marks{Route: mask &^ track, Track: track}, nil
}

// Way is a set of return routes.
type Way uint8

// The four return routes. Which one a service needs is told by the address
// that it is dialled at.
const (
	LoopbackV4 Way = 1 << iota
	LoopbackV6
	TrackedV4
	TrackedV6

	loopback = LoopbackV4 | LoopbackV6
)

// WayTo is the return route of a service that is dialled at addr.
func WayTo(addr netip.Addr) Way {
	addr = addr.Unmap()
	switch {
	case addr.Is4() && addr.IsLoopback():
		return LoopbackV4
	case addr.Is4():
		return TrackedV4
	case addr.IsLoopback():
		return LoopbackV6
	}
	return TrackedV6
}

// String names the set, as in "loopback IPv4, tracked IPv6".
func (w Way) String() string {
	var names []string
	for _, n := range []struct {
		way  Way
		name string
	}{
		{LoopbackV4, "loopback IPv4"},
		{LoopbackV6, "loopback IPv6"},
		{TrackedV4, "tracked IPv4"},
		{TrackedV6, "tracked IPv6"},
	} {
		if w&n.way != 0 {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, ", ")
}

// Plan is what has to be in the kernel for a set of services. It is pure: a
// Manager is what touches the kernel.
type Plan struct {
	Marks Marks
	Table int // the routing table; also in the name of the nftables tables

	local   spans // the services on loopback
	tracked Way   // the tracked ways that are needed
}

// With is p and what one more service needs.
func (p Plan) With(service netip.AddrPort) Plan {
	service = unmap(service)
	if way := WayTo(service.Addr()); way&loopback == 0 {
		p.tracked |= way
	} else {
		p.local = p.local.with(service)
	}
	return p
}

// Has reports whether p has what a service needs, and the mark that a
// transparent dial to it carries.
func (p Plan) Has(service netip.AddrPort) (mark uint32, ok bool) {
	service = unmap(service)
	if way := WayTo(service.Addr()); way&loopback == 0 {
		return p.Marks.Track, p.tracked&way != 0
	}
	return 0, p.local.has(service)
}

// priority is that of the ip rules.
func (p Plan) priority() int { return firstPriority + (p.Table % Tables) }

// filterName is that of the nftables tables.
func (p Plan) filterName() string { return fmt.Sprintf("portredirector-%d", p.Table) }

// needs reports whether family f needs anything at all.
func (p Plan) needs(f family) bool { return p.tracks(f) || len(p.local.of(f)) > 0 }

// tracks reports whether family f needs the nftables table.
func (p Plan) tracks(f family) bool {
	if f == ipv4 {
		return p.tracked&TrackedV4 != 0
	}
	return p.tracked&TrackedV6 != 0
}

// String prints the plan as the commands of ip(8) and nft(8) that would do the
// same.
func (p Plan) String() string {
	var b strings.Builder
	for _, f := range families {
		if p.needs(f) {
			fmt.Fprintf(&b, "ip -%s route add local default dev lo table %d protocol %d\n", f.flag(), p.Table, Protocol)
		}
		if p.tracks(f) {
			p.printFilter(&b, f)
		}
	}
	for _, f := range families {
		for _, r := range p.rules(f) {
			fmt.Fprintf(&b, "ip -%s rule add priority %d %s lookup %d protocol %d\n", f.flag(), r.Priority, selector(r), r.Table, Protocol)
		}
	}
	return b.String()
}

func (p Plan) printFilter(b *strings.Builder, f family) {
	c, m := p.Marks.Track, p.Marks.Route
	reply := fmt.Sprintf("ct direction reply ct mark and %#x == %#x meta mark set mark or %#x", c, c, m)
	fmt.Fprintf(b, `nft -f - <<EOF
table %s %s {
	chain output {
		type route hook output priority mangle
		ct direction original meta mark and %#x == %#x ct mark set ct mark or %#x
		%s
	}
	chain prerouting {
		type filter hook prerouting priority mangle
		%s
	}
}
EOF
`, f.nft(), p.filterName(), c, c, c, reply, reply)
}
