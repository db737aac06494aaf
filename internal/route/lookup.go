package route

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"portredirector/internal/ports"
)

// lookup is a question to the kernel for the route of a packet (RTM_GETROUTE).
type lookup struct {
	protocol ports.Protocol
	from, to netip.AddrPort // from may be the zero value
	mark     uint32
	in       int // the interface that the packet comes in by; 0 if this machine sends it
}

// found is the route that the kernel chose.
type found struct {
	kind    uint8 // unix.RTN_LOCAL, unix.RTN_UNICAST and so on
	table   int
	out     int  // the interface
	gateway bool // by a router
}

// ask asks the kernel. For a packet that comes in the error is EXDEV or EINVAL
// if the reverse path is not valid.
func (l lookup) ask() (found, error) {
	answers, err := l.request().Execute(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE)
	if err != nil {
		return found{}, err
	}
	if len(answers) == 0 {
		return found{}, unix.ENETUNREACH
	}
	msg := nl.DeserializeRtMsg(answers[0])
	f := found{kind: msg.Type, table: int(msg.Table)}
	attrs, err := nl.ParseRouteAttr(answers[0][msg.Len():])
	if err != nil {
		return found{}, err
	}
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.RTA_TABLE:
			f.table = int(nl.NativeEndian().Uint32(a.Value))
		case unix.RTA_OIF:
			f.out = int(nl.NativeEndian().Uint32(a.Value))
		case unix.RTA_GATEWAY, unix.RTA_VIA:
			f.gateway = true
		}
	}
	return f, nil
}

// routable reports whether the kernel has any route for a packet of this machine
// before a rule of nftables marks it. Without one the packet is not made.
func (l lookup) routable() bool {
	if l.in != 0 {
		return true
	}
	l.mark = 0
	_, err := l.ask()
	return !errors.Is(err, unix.ENETUNREACH)
}

func (l lookup) request() *nl.NetlinkRequest {
	msg := new(nl.RtMsg)
	msg.Family = unix.AF_INET6
	if l.to.Addr().Is4() {
		msg.Family = unix.AF_INET
	}
	msg.Dst_len = uint8(l.to.Addr().BitLen())
	request := nl.NewNetlinkRequest(unix.RTM_GETROUTE, 0)
	request.AddData(msg)
	add := func(kind int, value []byte) { request.AddData(nl.NewRtAttr(kind, value)) }
	port := func(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
	add(unix.RTA_DST, l.to.Addr().AsSlice())
	if l.from.IsValid() {
		msg.Src_len = uint8(l.from.Addr().BitLen())
		add(unix.RTA_SRC, l.from.Addr().AsSlice())
		add(unix.RTA_IP_PROTO, []byte{byte(number(l.protocol))})
		add(unix.RTA_SPORT, port(l.from.Port()))
		add(unix.RTA_DPORT, port(l.to.Port()))
	}
	if l.mark != 0 {
		add(unix.RTA_MARK, nl.Uint32Attr(l.mark))
	}
	if l.in != 0 {
		add(unix.RTA_IIF, nl.Uint32Attr(uint32(l.in)))
	}
	return request
}

// isLocal reports whether an address is this machine's.
func isLocal(a netip.Addr) bool {
	f, err := lookup{to: netip.AddrPortFrom(a, 0)}.ask()
	return err == nil && f.kind == unix.RTN_LOCAL
}

// OffLink reports whether packets to an address leave this machine by a router
// of the default route, and its way back is a stranger's.
func OffLink(a netip.Addr) bool {
	routes, err := netlink.RouteGetWithOptions(a.AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	if err != nil || len(routes) == 0 {
		return true // there is no route at all
	}
	r := routes[0]
	isDefault := r.Dst == nil
	if !isDefault {
		ones, _ := r.Dst.Mask.Size()
		isDefault = ones == 0
	}
	return isDefault && r.Type == unix.RTN_UNICAST
}
