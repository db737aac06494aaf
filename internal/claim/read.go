package claim

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// kinds are the types of routes in table local that make an address one of
// this machine. The kernel puts an own address in the place of a broadcast
// one, see refused4.
var kinds = map[int]refusal{
	unix.RTN_LOCAL:     {what: "an address of this machine"},
	unix.RTN_ANYCAST:   {what: "an anycast address of this machine"},
	unix.RTN_BROADCAST: {what: "a broadcast address of this machine's networks", never: true},
}

// reload reads everything anew, which is simpler than applying each change and takes a
// fraction of a millisecond. On error the known addresses stay.
func (o *Own) reload() error {
	s := newSet()
	torn, err := o.read(s)
	if err != nil {
		return err
	}
	if torn {
		// Something changed in the middle and may be missing, or something near
		// it. Better to refuse what is gone; the change itself is announced
		// and has us read again.
		s.addAll(o.known.Load())
	}
	s.sort()
	o.known.Store(s)
	return nil
}

// dump adds all own addresses to s. It reports whether a dump was torn (NLM_F_DUMP_INTR,
// include/uapi/linux/netlink.h).
func (o *Own) dump(s *set) (torn bool, err error) {
	addrs, err := o.handle.AddrList(nil, netlink.FAMILY_ALL)
	torn, err = tear(err)
	if err != nil {
		return false, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		s.addKind(unix.RTN_LOCAL, a.IP, 8*len(a.IP))
		s.ways.add(a)
	}
	filter := &netlink.Route{Table: unix.RT_TABLE_LOCAL}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		err := o.handle.RouteListFilteredIter(family, filter, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
			bits, _ := r.Dst.Mask.Size()
			s.addKind(r.Type, r.Dst.IP, bits)
			return true
		})
		tornHere, err := tear(err)
		if err != nil {
			return false, fmt.Errorf("list routes of table local: %w", err)
		}
		torn = torn || tornHere
	}
	tornHere, err := o.dumpRejected(s)
	return torn || tornHere, err
}

// tear distinguishes a torn dump from a failed one. A namespace without addresses has no
// table, nor has a kernel without IPv6.
func tear(err error) (torn bool, _ error) {
	switch {
	case errors.Is(err, netlink.ErrDumpInterrupted):
		return true, nil
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.EAFNOSUPPORT):
		return false, nil
	}
	return false, err
}

// addKind adds the prefix of ip's first bits, if a route of this type makes it
// one of this machine. IPv6 routes to IPv4-mapped addresses are left out: no
// IPv4 connection follows them.
func (s *set) addKind(routeType int, ip net.IP, bits int) {
	r, own := kinds[routeType]
	r.prefix = prefixOf(ip, bits)
	if own && r.prefix.IsValid() {
		s.add(r)
	}
}

// prefixOf returns the prefix of ip's first bits. The library writes 0.0.0.0 in
// 16 bytes.
func prefixOf(ip net.IP, bits int) netip.Prefix {
	a, _ := netip.AddrFromSlice(ip)
	return netip.PrefixFrom(a.Unmap(), bits).Masked()
}
