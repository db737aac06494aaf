package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
)

// PROXY protocol v1, section 2.1 of the specification.
const (
	v1Prefix   = "PROXY "
	v1Shortest = len("PROXY UNKNOWN\r\n")
	v1Longest  = 107 // "PROXY UNKNOWN", two full IPv6 addresses, two ports, CRLF
)

// The shortest fields of the lines: "PROXY TCP4 1.1.1.1 :: 1 1" and
// "PROXY TCP6 :: :: 1 1".
var (
	v1Widths4 = []int{5, 4, 7, 2, 1, 1}
	v1Widths6 = []int{5, 4, 2, 2, 1, 1}
)

// appendV1 appends the line. The specification describes IPv6 addresses as groups of
// hexadecimal digits only, so a mapped address is written as ::ffff:c000:201. parseV1 also
// takes ::ffff:192.0.2.1, which inet_ntop writes.
func (h Header) appendV1(b []byte) []byte {
	if h.Local {
		return append(b, "PROXY UNKNOWN\r\n"...)
	}
	src, dst := h.Source.Addr(), h.Destination.Addr()
	if src.Is4() && dst.Is4() {
		b = src.AppendTo(append(b, "PROXY TCP4 "...))
		b = dst.AppendTo(append(b, ' '))
	} else {
		b = append6(append(b, "PROXY TCP6 "...), src)
		b = append6(append(b, ' '), dst)
	}
	b = strconv.AppendUint(append(b, ' '), uint64(h.Source.Port()), 10)
	b = strconv.AppendUint(append(b, ' '), uint64(h.Destination.Port()), 10)
	return append(b, "\r\n"...)
}

// append6 appends a in IPv6 notation.
func append6(b []byte, a netip.Addr) []byte {
	if !a.Is4() {
		return a.AppendTo(b)
	}
	v4 := a.As4()
	b = append(b, "::ffff:"...)
	b = strconv.AppendUint(b, uint64(binary.BigEndian.Uint16(v4[:2])), 16)
	b = append(b, ':')
	return strconv.AppendUint(b, uint64(binary.BigEndian.Uint16(v4[2:])), 16)
}

// moreV1 is more for PROXY v1: the missing part of each field's shortest length, CR and
// LF.
func moreV1(b []byte) (int, error) {
	if n := min(len(b), len(v1Prefix)); string(b[:n]) != v1Prefix[:n] {
		return 0, ErrUnknown
	}
	if len(b) < v1Shortest {
		return v1Shortest - len(b), nil
	}
	n, err := v1Missing(b)
	if err == nil && len(b)+n > v1Longest {
		err = fmt.Errorf("%w: more than the %d bytes of PROXY v1", ErrTooLong, v1Longest)
	}
	return n, err
}

// v1Missing is moreV1 after the protocol's name.
func v1Missing(b []byte) (int, error) {
	var widths []int
	switch name := b[len(v1Prefix):]; {
	case bytes.HasPrefix(name, []byte("UNKNOWN ")), bytes.HasPrefix(name, []byte("UNKNOWN\r\n")):
		// Anything may stand before CRLF, a lone CR or LF included.
		return crlfMissing(b), nil
	case bytes.HasPrefix(name, []byte("TCP4 ")):
		widths = v1Widths4
	case bytes.HasPrefix(name, []byte("TCP6 ")):
		widths = v1Widths6
	default:
		return 0, fmt.Errorf("%w: %q is not TCP4, TCP6 or UNKNOWN", ErrV1Line, name)
	}
	if end := bytes.IndexAny(b, "\r\n"); end >= 0 {
		if tail := string(b[end:]); tail != "\r" && tail != "\r\n" {
			return 0, fmt.Errorf("%w: it does not end in CR LF", ErrV1Line)
		}
		return crlfMissing(b), nil
	}
	n, ok := fieldsMissing(b, ' ', widths)
	if !ok {
		return 0, fmt.Errorf("%w: too many fields", ErrV1Line)
	}
	return n + crlfMissing(b), nil
}

// crlfMissing returns how many bytes of CRLF the end of b lacks.
func crlfMissing(b []byte) int {
	switch {
	case bytes.HasSuffix(b, []byte("\r\n")):
		return 0
	case bytes.HasSuffix(b, []byte("\r")):
		return 1
	}
	return 2
}

// parseV1 reads the line b, whose name and CRLF moreV1 has checked. The destination
// may be of the other family: nginx sends such lines where it takes the source from a
// header (set_real_ip_from), and only the destination's port matters here.
func parseV1(b []byte) (Header, Form, error) {
	name, rest, _ := bytes.Cut(b[len(v1Prefix):len(b)-len("\r\n")], []byte(" "))
	if string(name) == "UNKNOWN" {
		return Header{Local: true}, V1, nil
	}
	var fields [4][]byte // source, destination, source port, destination port
	if !cut(rest, " ", fields[:]) {
		return Header{}, 0, fmt.Errorf("%w: not two addresses and two ports", ErrV1Line)
	}
	src, err := parseAddrPort(fields[0], fields[2])
	if err != nil {
		return Header{}, 0, fmt.Errorf("%w: source: %w", ErrV1Line, err)
	}
	dst, err := parseAddrPort(fields[1], fields[3])
	if err != nil {
		return Header{}, 0, fmt.Errorf("%w: destination: %w", ErrV1Line, err)
	}
	if src.Addr().Is4() != (string(name) == "TCP4") {
		return Header{}, 0, fmt.Errorf("%w: the source is not an address of %s", ErrV1Line, name)
	}
	h := Header{Source: plain(src), Destination: plain(dst)}
	return h, V1, h.check()
}
