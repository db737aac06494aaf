package claim

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// rejections are the types of routes that ban an address. A peer of ours would
// not notice such a route, since the replies to it leave by the link.
var rejections = map[int]refusal{
	unix.RTN_UNREACHABLE: {what: `banned by a route of this machine ("ip route" of type unreachable)`},
	unix.RTN_BLACKHOLE:   {what: `banned by a route of this machine ("ip route" of type blackhole)`},
	unix.RTN_PROHIBIT:    {what: `banned by a route of this machine ("ip route" of type prohibit)`},
}

// The shortest prefixes of routes that are bans. Shorter ones belong to routing:
// a router rejects private networks that it does not know, and its own prefix
// as a whole, and peers from there may come over the link.
const (
	shortestBan4 = 24
	shortestBan6 = 48
)

// dumpRejected adds the addresses that routes of table main reject.
func (o *Own) dumpRejected(s *set) (torn bool, err error) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		for kind := range rejections {
			// The kernel filters by type, so a full table of the Internet costs nothing.
			filter := &netlink.Route{Table: unix.RT_TABLE_MAIN, Type: kind}
			err := o.handle.RouteListFilteredIter(family, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE, func(r netlink.Route) bool {
				bits, _ := r.Dst.Mask.Size()
				s.addRejected(r.Type, r.Dst.IP, bits)
				return true
			})
			tornHere, err := tear(err)
			if err != nil {
				return false, fmt.Errorf("list routes that reject: %w", err)
			}
			torn = torn || tornHere
		}
	}
	return torn, nil
}

// addRejected adds the prefix of ip's first bits if a route of this type is a
// ban.
func (s *set) addRejected(routeType int, ip net.IP, bits int) {
	r, rejects := rejections[routeType]
	r.prefix = prefixOf(ip, bits)
	if !rejects || !r.prefix.IsValid() || bits < shortestBan4 || r.prefix.Addr().Is6() && bits < shortestBan6 {
		return
	}
	s.add(r)
}
