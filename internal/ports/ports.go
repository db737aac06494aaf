// Package ports parses and formats the ports of options, files and invitations.
package ports

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Protocol is a transport protocol.
type Protocol uint8

// The protocols.
const (
	TCP Protocol = iota
	UDP
)

// String returns the name of the protocol, as in package net.
func (p Protocol) String() string {
	if p == UDP {
		return "udp"
	}
	return "tcp"
}

// suffix returns the suffix of a port of the protocol.
func (p Protocol) suffix() string {
	if p == UDP {
		return "/udp"
	}
	return ""
}

// CutProtocol cuts /udp or /tcp off the end of s. The default is TCP.
func CutProtocol(s string) (before string, p Protocol) {
	if before, ok := strings.CutSuffix(s, "/udp"); ok {
		return before, UDP
	}
	return strings.TrimSuffix(s, "/tcp"), TCP
}

// Port is a port of a protocol.
type Port struct {
	Protocol Protocol
	Number   uint16
}

// String returns the port as Parse reads it.
func (p Port) String() string { return strconv.Itoa(int(p.Number)) + p.Protocol.suffix() }

// Compare orders ports by number, TCP before UDP.
func (p Port) Compare(q Port) int {
	return cmp.Or(cmp.Compare(p.Number, q.Number), cmp.Compare(p.Protocol, q.Protocol))
}

// Range is an inclusive range of ports of one protocol.
type Range struct {
	First, Last uint16
	Protocol    Protocol
}

// One returns the range of a single port.
func One(p Port) Range { return Range{p.Number, p.Number, p.Protocol} }

// ParsePort reads a port number.
func ParsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no port: a port is a number from 1 to 65535", s)
	}
	return uint16(n), nil
}

// Parse parses a port, as in 80, or a range, as in 8000-8099. A suffix /udp or /tcp may follow.
func Parse(s string) (Range, error) {
	numbers, protocol := CutProtocol(s)
	low, high, isRange := strings.Cut(numbers, "-")
	first, err := ParsePort(low)
	if err != nil || !isRange {
		return Range{first, first, protocol}, err
	}
	last, err := ParsePort(high)
	if err != nil {
		return Range{}, err
	}
	if last < first {
		return Range{}, fmt.Errorf("range %q ends before it starts", s)
	}
	return Range{first, last, protocol}, nil
}

// String returns the range as Parse reads it.
func (r Range) String() string {
	if r.First == r.Last {
		return r.Port(0).String()
	}
	return fmt.Sprintf("%d-%d%s", r.First, r.Last, r.Protocol.suffix())
}

// Len returns the number of ports.
func (r Range) Len() int { return int(r.Last) - int(r.First) + 1 }

// Port returns the port at an index.
func (r Range) Port(i int) Port { return Port{r.Protocol, r.First + uint16(i)} } //nolint:gosec // within the range

// Has reports whether a port is in the range.
func (r Range) Has(p Port) bool {
	return r.Protocol == p.Protocol && r.First <= p.Number && p.Number <= r.Last
}

// Merge sorts ranges, and joins those that touch or overlap.
func Merge(ranges []Range) []Range {
	ranges = slices.Clone(ranges)
	slices.SortFunc(ranges, func(a, b Range) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.First, b.First))
	})
	var merged []Range
	for _, r := range ranges {
		if n := len(merged); n > 0 && r.Protocol == merged[n-1].Protocol && int(r.First) <= int(merged[n-1].Last)+1 {
			merged[n-1].Last = max(merged[n-1].Last, r.Last)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// Cover reports whether each port of r is in one of the ranges.
func Cover(ranges []Range, r Range) bool {
	return slices.ContainsFunc(Merge(ranges), func(all Range) bool {
		return all.Protocol == r.Protocol && all.First <= r.First && r.Last <= all.Last
	})
}
