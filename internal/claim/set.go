package claim

import (
	"net/netip"
	"slices"
)

// set holds the refusals for own addresses. It does not change after it is published.
type set struct {
	hosts    map[netip.Addr]refusal // for single addresses
	prefixes []refusal              // for prefixes, the longest first once sorted

	ways ways
}

func newSet() *set { return &set{hosts: make(map[netip.Addr]refusal)} }

// add adds a refusal. Of two for one address the first stays. Loopback is left out,
// because permission for the built-in refusal must be enough.
func (s *set) add(r refusal) {
	switch {
	case isLoopback(r.prefix):
	case r.prefix.IsSingleIP():
		if _, has := s.hosts[r.prefix.Addr()]; !has {
			s.hosts[r.prefix.Addr()] = r
		}
	default:
		s.prefixes = append(s.prefixes, r)
	}
}

// addAll adds the refusals of another set.
func (s *set) addAll(other *set) {
	for _, r := range other.hosts {
		s.add(r)
	}
	for _, r := range other.prefixes {
		if !slices.Contains(s.prefixes, r) {
			s.add(r)
		}
	}
}

// sort must be called between the last add and the first find.
func (s *set) sort() {
	slices.SortStableFunc(s.prefixes, func(a, b refusal) int { return b.prefix.Bits() - a.prefix.Bits() })
}

// find returns the longest refusal for a, or the zero refusal.
func (s *set) find(a netip.Addr) refusal {
	if r, has := s.hosts[a]; has {
		return r
	}
	for _, r := range s.prefixes {
		if r.prefix.Contains(a) {
			return r
		}
	}
	return refusal{}
}
