// Package ports has the ranges of TCP ports that options, files and invitations name.
package ports

import (
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

// String returns the name of the protocol, which is also that of package net.
func (p Protocol) String() string {
	if p == UDP {
		return "udp"
	}
	return "tcp"
}

// suffix returns what follows a port of the protocol.
func (p Protocol) suffix() string {
	if p == UDP {
		return "/udp"
	}
	return ""
}

// Range is a range of ports, both ends included. A single port is a range of one.
type Range struct{ First, Last uint16 }

// One returns the range of a single port.
func One(port uint16) Range { return Range{port, port} }

// ParsePort reads a port number.
func ParsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no port: a port is a number from 1 to 65535", s)
	}
	return uint16(n), nil
}

// Parse reads a port, as in 80, or a range of them, as in 8000-8099.
func Parse(s string) (Range, error) {
	low, high, isRange := strings.Cut(s, "-")
	first, err := ParsePort(low)
	if err != nil || !isRange {
		return One(first), err
	}
	last, err := ParsePort(high)
	if err != nil {
		return Range{}, err
	}
	if last < first {
		return Range{}, fmt.Errorf("range %q ends before it starts", s)
	}
	return Range{first, last}, nil
}

// String returns the range as Parse reads it.
func (r Range) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// Len returns the number of ports.
func (r Range) Len() int { return int(r.Last) - int(r.First) + 1 }

// Has reports whether a port is in the range.
func (r Range) Has(port uint16) bool { return r.First <= port && port <= r.Last }

// Merge sorts ranges, and joins those that touch or overlap.
func Merge(ranges []Range) []Range {
	ranges = slices.Clone(ranges)
	slices.SortFunc(ranges, func(a, b Range) int { return int(a.First) - int(b.First) })
	var merged []Range
	for _, r := range ranges {
		if n := len(merged); n > 0 && int(r.First) <= int(merged[n-1].Last)+1 {
			merged[n-1].Last = max(merged[n-1].Last, r.Last)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// Cover reports whether each port of r is in one of the ranges.
func Cover(ranges []Range, r Range) bool {
	return slices.ContainsFunc(Merge(ranges), func(all Range) bool { return all.First <= r.First && r.Last <= all.Last })
}
