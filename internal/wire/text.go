package wire

import (
	"bytes"
	"errors"
	"net/netip"
	"strconv"
)

// Helpers of the two text forms, v1 and py.

// fieldsMissing returns how many bytes must at least follow the beginning b of a
// line before all its fields are there, if the shortest field i has widths[i]
// bytes. It reports false if b has too many fields.
func fieldsMissing(b []byte, sep byte, widths []int) (int, bool) {
	done := bytes.Count(b, []byte{sep})
	if done >= len(widths) {
		return 0, false
	}
	current := len(b) - (bytes.LastIndexByte(b, sep) + 1)
	n := max(0, widths[done]-current)
	for _, width := range widths[done+1:] {
		n += 1 + width
	}
	return n, true
}

// cut splits b around sep. It reports false unless the number of fields is exactly
// len(fields).
func cut(b []byte, sep string, fields [][]byte) bool {
	for i := range fields {
		var more bool
		fields[i], b, more = bytes.Cut(b, []byte(sep))
		if last := i == len(fields)-1; more == last {
			return false
		}
	}
	return true
}

// parseAddrPort reads an address without a zone and a decimal port.
func parseAddrPort(addr, port []byte) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(string(addr))
	if err != nil {
		return netip.AddrPort{}, err
	}
	if a.Zone() != "" {
		return netip.AddrPort{}, errors.New("the address has a zone")
	}
	p, err := parsePort(port)
	return netip.AddrPortFrom(a, p), err
}

// parsePort reads a decimal port without a sign and without leading zeros.
func parsePort(b []byte) (uint16, error) {
	if len(b) > 1 && b[0] == '0' {
		return 0, errors.New("the port has a leading zero")
	}
	port, err := strconv.ParseUint(string(b), 10, 16)
	return uint16(port), err
}
