package route

import (
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"

	"portredirector/internal/ports"
)

// end is one end of a packet.
type end bool

const (
	source end = true
	dest   end = false
)

// join returns the expressions of all parts.
func join(parts ...[]expr.Any) (all []expr.Any) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// protocolIs selects packets by their protocol.
func protocolIs(p ports.Protocol) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{byte(number(p))}},
	}
}

// addressIs selects packets by the address of an end.
func addressIs(e end, a netip.Addr) []expr.Any {
	length := uint32(a.BitLen() / 8)
	offset := uint32(12) // RFC 791
	if a.Is6() {
		offset = 8 // RFC 8200
	}
	if e == dest {
		offset += length
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: a.AsSlice()},
	}
}

// portIs selects TCP or UDP by the port of an end.
func portIs(e end, port uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: e.portOffset(), Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
	}
}

// setPort changes the port of an end of a UDP packet.
func setPort(e end, port uint16) []expr.Any {
	const checksum = 6 // RFC 768
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Payload{
			OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: e.portOffset(), Len: 2,
			CsumType: expr.CsumTypeInet, CsumOffset: checksum,
		},
	}
}

// portOffset returns where the port is in the header of TCP and UDP.
func (e end) portOffset() uint32 {
	if e == source {
		return 0
	}
	return 2
}
