package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// PROXY protocol v2, section 2.2 of the specification: the signature, version
// and command, family and transport, the length of the rest; then the rest.
const (
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	v2Fixed   = 16 // bytes before the rest

	// v2Longest bounds the announced length, which a stranger may set to 65535.
	// The largest sensible rest, IPv6 addresses with an authority, a
	// certificate's name and all the other registered TLVs, is well below it.
	v2Longest = 4096

	v2Version    = 0x20
	commandLocal = 0x0
	commandProxy = 0x1

	familyUnspec = 0x00
	familyTCP4   = 0x11
	familyTCP6   = 0x21
	familyUDP4   = 0x12
	familyUDP6   = 0x22
)

// blockLen returns the length of the addresses of a family byte.
func blockLen(family byte) int {
	switch family >> 4 {
	case 1: // AF_INET: two addresses, two ports
		return 2*4 + 2*2
	case 2: // AF_INET6
		return 2*16 + 2*2
	case 3: // AF_UNIX: two paths
		return 2 * 108
	}
	return 0
}

// appendV2 appends the header, and for Native its TLVs.
func (h Header) appendV2(b []byte, f Form) []byte {
	start := len(b)
	b = h.appendAddresses(append(b, signature...))
	tlvs := len(b) - start
	if f == Native {
		b = h.appendTLVs(b)
	}
	b[start+15] = byte((len(b) - start - v2Fixed) & 0xff) // 106 at most
	if f == Native {
		sign(b[start:], tlvs+tlvFixed)
	}
	return b
}

// appendAddresses appends the command, the family, room for the length, and the
// addresses.
func (h Header) appendAddresses(b []byte) []byte {
	src, dst := h.Source.Addr(), h.Destination.Addr()
	switch {
	case h.Local:
		return append(b, v2Version|commandLocal, familyUnspec, 0, 0)
	case src.Is4() && dst.Is4():
		src4, dst4 := src.As4(), dst.As4()
		b = append(b, v2Version|commandProxy, familyTCP4, 0, 0)
		b = append(append(b, src4[:]...), dst4[:]...)
	default:
		src16, dst16 := src.As16(), dst.As16()
		b = append(b, v2Version|commandProxy, familyTCP6, 0, 0)
		b = append(append(b, src16[:]...), dst16[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, h.Source.Port())
	return binary.BigEndian.AppendUint16(b, h.Destination.Port())
}

// moreV2 is more for PROXY v2.
func moreV2(b []byte) (int, error) {
	if n := min(len(b), len(signature)); string(b[:n]) != signature[:n] {
		return 0, ErrUnknown
	}
	if len(b) < v2Fixed {
		return v2Fixed - len(b), nil
	}
	rest := int(binary.BigEndian.Uint16(b[14:]))
	if len(b) == v2Fixed {
		if err := checkV2(b[12], b[13], rest, familyTCP4, familyTCP6); err != nil {
			return 0, err
		}
	}
	return v2Fixed + rest - len(b), nil
}

// checkV2 returns an error if the header need not be read to its end. Under LOCAL the
// family has no meaning and must not be checked. Otherwise the family must be IPv4, IPv6 or unspecified.
func checkV2(versionCommand, family byte, rest int, family4, family6 byte) error {
	command := versionCommand & 0x0f
	switch {
	case versionCommand&0xf0 != v2Version:
		return fmt.Errorf("%w: %#02x", ErrVersion, versionCommand)
	case command != commandLocal && command != commandProxy:
		return fmt.Errorf("%w: %#02x", ErrCommand, versionCommand)
	case rest > v2Longest:
		return fmt.Errorf("%w: PROXY v2 announces %d bytes, more than %d", ErrTooLong, rest, v2Longest)
	case command == commandLocal:
		return nil
	case family != familyUnspec && family != family4 && family != family6:
		return fmt.Errorf("%w: %#02x", ErrFamily, family)
	case rest < blockLen(family):
		return fmt.Errorf("%w: %d bytes, family %#02x", ErrShort, rest, family)
	}
	return nil
}

// parseV2 parses the complete header b, whose start checkV2 has checked.
func parseV2(b []byte) (Header, Form, error) {
	family := b[13]
	tlvs := v2Fixed + blockLen(family)
	if b[12]&0x0f == commandLocal {
		return parseLocal(b, tlvs)
	}
	h := Header{Local: family == familyUnspec}
	if !h.Local {
		h.Source, h.Destination = addresses(b[v2Fixed:tlvs])
		if err := h.check(); err != nil {
			return Header{}, 0, err
		}
	}
	return withTLVs(h, b, tlvs)
}

// parseLocal parses a header whose command is LOCAL. The receiver "must accept this
// connection as valid" and discard the rest, so malformed TLVs are ignored. A checksum
// must match, and a sender that asks for an answer gets one.
func parseLocal(b []byte, tlvs int) (Header, Form, error) {
	bare := Header{Local: true}
	if tlvs > len(b) {
		return bare, V2, nil
	}
	h, f, err := withTLVs(bare, b, tlvs)
	if errors.Is(err, ErrTLV) {
		return bare, V2, nil
	}
	return h, f, err
}

// addresses parses a block of addresses and ports.
func addresses(block []byte) (src, dst netip.AddrPort) {
	ports := len(block) - 2*2
	s, _ := netip.AddrFromSlice(block[:ports/2])
	d, _ := netip.AddrFromSlice(block[ports/2 : ports])
	return netip.AddrPortFrom(s.Unmap(), binary.BigEndian.Uint16(block[ports:])),
		netip.AddrPortFrom(d.Unmap(), binary.BigEndian.Uint16(block[ports+2:]))
}
