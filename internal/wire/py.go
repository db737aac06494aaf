package wire

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
)

// pyLongest is the length of "255.255.255.255:65535:65535\n".
const pyLongest = 28

// pyWidths are the shortest fields: "1.1.1.1:1:1".
var pyWidths = []int{7, 1, 1}

// appendPy appends the line of PyPortRedirector: ip:port:destport.
func (h Header) appendPy(b []byte) ([]byte, error) {
	if h.Local {
		return b, ErrPyLocal
	}
	if !h.Source.Addr().Is4() {
		return b, ErrPyIPv6
	}
	b = h.Source.AppendTo(b)
	b = strconv.AppendUint(append(b, ':'), uint64(h.Destination.Port()), 10)
	return append(b, '\n'), nil
}

// morePy is more for the PyPortRedirector line. It checks the alphabet of incoming bytes,
// so that another protocol that starts with a digit is refused at once.
func morePy(b []byte) (int, error) {
	end := bytes.IndexFunc(b, func(r rune) bool {
		return (r < '0' || r > '9') && r != '.' && r != ':'
	})
	if end >= 0 {
		if string(b[end:]) != "\n" {
			return 0, fmt.Errorf("%w: %q", ErrPyLine, b)
		}
		return 0, nil
	}
	n, ok := fieldsMissing(b, ':', pyWidths)
	if !ok {
		return 0, fmt.Errorf("%w: too many fields", ErrPyLine)
	}
	n += len("\n")
	if len(b)+n > pyLongest {
		return 0, fmt.Errorf("%w: more than the %d bytes of a PyPortRedirector line", ErrTooLong, pyLongest)
	}
	return n, nil
}

// parsePy parses the line b, whose newline morePy has checked.
func parsePy(b []byte) (Header, Form, error) {
	var fields [3][]byte // source, source port, destination port
	if !cut(bytes.TrimSuffix(b, []byte("\n")), ":", fields[:]) {
		return Header{}, 0, fmt.Errorf("%w: not an address and two ports", ErrPyLine)
	}
	src, err := parseAddrPort(fields[0], fields[1])
	if err != nil {
		return Header{}, 0, fmt.Errorf("%w: source: %w", ErrPyLine, err)
	}
	port, err := parsePort(fields[2])
	if err != nil {
		return Header{}, 0, fmt.Errorf("%w: destination: %w", ErrPyLine, err)
	}
	h := Header{Source: src, Destination: netip.AddrPortFrom(netip.Addr{}, port)}
	return h, Py, h.check()
}
