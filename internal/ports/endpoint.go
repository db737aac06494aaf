package ports

import (
	"cmp"
	"net/netip"
)

// Endpoint is the address, port and protocol of a service.
type Endpoint struct {
	Protocol Protocol
	netip.AddrPort
}

// At returns the endpoint of the protocol at an address and port.
func (p Protocol) At(a netip.AddrPort) Endpoint {
	return Endpoint{p, netip.AddrPortFrom(a.Addr().Unmap(), a.Port())}
}

// String returns the address and port. UDP endpoints end in /udp.
func (e Endpoint) String() string { return e.AddrPort.String() + e.Protocol.suffix() }

// MarshalText returns the same text as String, for logs.
func (e Endpoint) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// Compare orders endpoints by address and port, TCP before UDP.
func (e Endpoint) Compare(o Endpoint) int {
	return cmp.Or(e.AddrPort.Compare(o.AddrPort), cmp.Compare(e.Protocol, o.Protocol))
}
