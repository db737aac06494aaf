package claim

import (
	"net/netip"
	"slices"
)

// set has the refusals for the own addresses. Once it is published it does not
// change.
type set struct {
	hosts    map[netip.Addr]refusal // those of one address
	prefixes []refusal              // the others, the longest first once sorted

	ways ways
}

func newSet() *set { return &set{hosts: make(map[netip.Addr]refusal)} }

// add adds a refusal. Loopback is left out, for it has a built-in one, which
// would otherwise be lifted in vain. Of two for one address the first stays.
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

// addAll adds those of another set.
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

// sort has to come between the last add and the first find.
func (s *set) sort() {
	slices.SortStableFunc(s.prefixes, func(a, b refusal) int { return b.prefix.Bits() - a.prefix.Bits() })
}

// find returns the longest refusal that has a; the zero refusal if none has.
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
