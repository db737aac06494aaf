package probe

import (
	"encoding/binary"
	"net/netip"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"portredirector/internal/ports"
)

// Flow has the entry of connection tracking for a probe.
type Flow struct {
	// Source and Dest are the addresses that the service sees, behind any
	// translation on this machine.
	Source, Dest netip.AddrPort
	// Replied reports whether a reply was seen, before it was routed and filtered.
	Replied bool
}

// Numbers of the kernel, include/uapi/linux/netfilter/nfnetlink_conntrack.h.
const (
	getFlow    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1 // IPCTNL_MSG_CT_GET
	deleteFlow = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2 // IPCTNL_MSG_CT_DELETE

	tupleOriginal, tupleReply, status = 1, 2, 3 // CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_STATUS
	tupleIP, tupleProto               = 1, 2
	protoNumber, sourcePort, destPort = 1, 2, 3

	seenReply = 1 << 1 // IPS_SEEN_REPLY
)

// addressTypes returns the attributes of a tuple's source and destination
// addresses, and the number of the family.
func addressTypes(a netip.Addr) (source, dest uint16, family byte) {
	if a.Is4() {
		return 1, 2, unix.AF_INET
	}
	return 3, 4, unix.AF_INET6
}

// flow asks for the entry of a path. It is nil where there is none, and where
// the kernel has no connection tracking.
func (p Path) flow() *Flow {
	answers, err := p.askConntrack(getFlow)
	if err != nil || len(answers) == 0 {
		return nil
	}
	f, err := decodeFlow(answers[0])
	if err != nil {
		return nil
	}
	return f
}

// forget removes the conntrack entry of a path, if any. A UDP entry would outlive
// the probe by minutes.
func (p Path) forget() { _, _ = p.askConntrack(deleteFlow) }

// askConntrack sends a request about the entry of a path.
func (p Path) askConntrack(what int) ([][]byte, error) {
	_, _, family := addressTypes(p.To.Addr())
	attrs := netlink.NewAttributeEncoder()
	attrs.Nested(tupleOriginal, p.encode)
	data, err := attrs.Encode()
	if err != nil {
		return nil, err
	}
	// The answer claims to be one of several (NLM_F_MULTI), so the acknowledgment
	// has to mark its end.
	request := nl.NewNetlinkRequest(what, unix.NLM_F_ACK)
	request.AddRawData([]byte{family, unix.NFNETLINK_V0, 0, 0}) // struct nfgenmsg
	request.AddRawData(data)
	return request.Execute(unix.NETLINK_NETFILTER, 0)
}

// number returns the number of the protocol in an IP header.
func (p Path) number() byte {
	if p.Protocol == ports.UDP {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}

// encode writes the tuple of a path.
func (p Path) encode(e *netlink.AttributeEncoder) error {
	source, dest, _ := addressTypes(p.To.Addr())
	e.ByteOrder = binary.BigEndian
	e.Nested(tupleIP, func(e *netlink.AttributeEncoder) error {
		e.Bytes(source, p.From.Addr().AsSlice())
		e.Bytes(dest, p.To.Addr().AsSlice())
		return nil
	})
	e.Nested(tupleProto, func(e *netlink.AttributeEncoder) error {
		e.ByteOrder = binary.BigEndian
		e.Uint8(protoNumber, p.number())
		e.Uint16(sourcePort, p.From.Port())
		e.Uint16(destPort, p.To.Port())
		return nil
	})
	return nil
}

// decodeFlow reads an entry. The service sees the reverse of what the tuple of
// the replies says.
func decodeFlow(data []byte) (*Flow, error) {
	const head = 4 // struct nfgenmsg
	if len(data) < head {
		return nil, unix.EBADMSG
	}
	d, err := netlink.NewAttributeDecoder(data[head:])
	if err != nil {
		return nil, err
	}
	d.ByteOrder = binary.BigEndian
	var f Flow
	for d.Next() {
		switch d.Type() {
		case tupleReply:
			d.Nested(f.decodeReply)
		case status:
			f.Replied = d.Uint32()&seenReply != 0
		}
	}
	return &f, d.Err()
}

func (f *Flow) decodeReply(d *netlink.AttributeDecoder) error {
	var source, dest netip.Addr
	var sport, dport uint16
	for d.Next() {
		switch d.Type() {
		case tupleIP:
			d.Nested(func(d *netlink.AttributeDecoder) error {
				for d.Next() {
					a, _ := netip.AddrFromSlice(d.Bytes())
					if d.Type()%2 == 1 { // CTA_IP_V4_SRC, CTA_IP_V6_SRC
						source = a
					} else {
						dest = a
					}
				}
				return d.Err()
			})
		case tupleProto:
			d.Nested(func(d *netlink.AttributeDecoder) error {
				d.ByteOrder = binary.BigEndian
				for d.Next() {
					switch d.Type() {
					case sourcePort:
						sport = d.Uint16()
					case destPort:
						dport = d.Uint16()
					}
				}
				return d.Err()
			})
		}
	}
	f.Source, f.Dest = netip.AddrPortFrom(dest, dport), netip.AddrPortFrom(source, sport)
	return d.Err()
}
