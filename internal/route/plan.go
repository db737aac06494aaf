package route

import (
	"net/netip"
	"strings"
	"time"

	"portredirector/internal/ports"
)

// Defaults of the numbers by which our state is known in the kernel.
const (
	// DefaultTable is the first of the Tables routing tables among which each
	// server on a machine takes one.
	DefaultTable = 7700
	// Tables is the number of servers that one network namespace can have.
	Tables = 32
	// Protocol is the routing protocol number on our rules and routes
	// (rtnetlink(7), rtm_protocol). It tells them from others.
	Protocol = 77
)

// Way is a set of return routes.
type Way uint8

// The four return routes. The address that a service is dialed at decides
// which one it needs.
const (
	LoopbackV4 Way = 1 << iota
	LoopbackV6
	TrackedV4
	TrackedV6

	loopback = LoopbackV4 | LoopbackV6
)

// WayTo returns the return route of a service that is dialed at addr.
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

// Plan describes the kernel state that a set of services needs. It is pure:
// only a Manager touches the kernel.
type Plan struct {
	Marks Marks
	Table int // the routing table; also in the name of the nftables tables

	// Localnet says that 127.0.0.0/8 may cross an interface (sysctl
	// route_localnet). NAT may then lead a dial to 127.0.0.1 elsewhere, so
	// services there are tracked as well.
	Localnet bool
	// Plain leaves out the parts of the nftables table that old kernels lack.
	Plain bool
	// FlowTimeout is the life of a silent conntrack entry of a UDP flow, in whole
	// seconds. At 0 the kernel's own times apply.
	FlowTimeout time.Duration

	local   spans // the services on loopback
	tracked Way   // the tracked ways that are needed
}

// With returns p and the needs of one more service.
func (p Plan) With(service ports.Endpoint) Plan {
	way := WayTo(service.Addr())
	if way&loopback != 0 {
		p.local = p.local.with(service)
	}
	p.tracked |= p.tracking(way)
	return p
}

// Has reports whether p has the needs of a service, and returns the mark that
// a transparent dial to it carries.
func (p Plan) Has(service ports.Endpoint) (mark uint32, ok bool) {
	way := WayTo(service.Addr())
	if tracking := p.tracking(way); tracking != 0 {
		mark = p.Marks.Track
		if p.tracked&tracking == 0 {
			return mark, false
		}
	}
	return mark, way&loopback == 0 || p.local.has(service)
}

// tracking returns the tracked way that way needs, or none.
func (p Plan) tracking(way Way) Way {
	if way == LoopbackV4 && p.Localnet {
		return TrackedV4
	}
	return way &^ loopback
}

// withLocalnet returns p for a machine with or without route_localnet.
// Services that were planned before are tracked from then on; their live
// connections keep what they need.
func (p Plan) withLocalnet(on bool) Plan {
	p.Localnet = on
	if on && len(p.local.of(ipv4)) > 0 {
		p.tracked |= TrackedV4
	}
	return p
}

// needs reports whether family f needs anything at all.
func (p Plan) needs(f family) bool { return p.tracks(f) || len(p.local.of(f)) > 0 }

// tracks reports whether family f needs the nftables table.
func (p Plan) tracks(f family) bool {
	if f == ipv4 {
		return p.tracked&TrackedV4 != 0
	}
	return p.tracked&TrackedV6 != 0
}
