package ports

import (
	"cmp"
	"net/netip"
)

// Endpoint is an address and port of a protocol, where a service is dialed.
type Endpoint struct {
	Protocol Protocol
	netip.AddrPort
}

// At returns the endpoint of the protocol at an address and port.
func (p Protocol) At(a netip.AddrPort) Endpoint {
	return Endpoint{p, netip.AddrPortFrom(a.Addr().Unmap(), a.Port())}
}

// String returns the address and port, with /udp behind those of UDP.
func (e Endpoint) String() string { return e.AddrPort.String() + e.Protocol.suffix() }

// MarshalText does what String does, for logs.
func (e Endpoint) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// Compare orders endpoints by address and port, TCP before UDP.
func (e Endpoint) Compare(o Endpoint) int {
	return cmp.Or(e.AddrPort.Compare(o.AddrPort), cmp.Compare(e.Protocol, o.Protocol))
}
