package upstream

import (
	"hash/maphash"
	"math"
	"net/netip"
	"slices"
)

// Target is a server and its current address.
type Target struct {
	Name string
	At   netip.AddrPort
}

// Steer returns the server for the datagrams of a source, without blocking. All flows of a source go to
// one server while that is in use, because a peer may continue a conversation in a new flow (QUIC,
// RFC 9000, section 9). With failover Steer returns the first server. Otherwise a hash spreads sources,
// and only those of a failed server move. fits selects servers by name.
func (ss *Servers) Steer(source netip.Prefix, fits func(name string) bool) (Target, bool) {
	all := *ss.all.Load()
	usable := func(s *server) bool { return s.best.Load() != nil && fits(s.name) }
	s := ss.steerTo(source, all, func(s *server) bool { return !s.suspect.Load() && usable(s) })
	if s == nil {
		s = ss.steerTo(source, all, usable)
	}
	if s == nil {
		return Target{}, false
	}
	best := s.best.Load()
	if best == nil {
		return Target{}, false
	}
	return Target{s.name, *best}, true
}

// steerTo chooses among the servers that fit.
func (ss *Servers) steerTo(source netip.Prefix, all []*server, fits func(*server) bool) *server {
	if ss.cfg.Balance == Failover {
		if i := slices.IndexFunc(all, fits); i >= 0 {
			return all[i]
		}
		return nil
	}
	ss.turns.Lock()
	defer ss.turns.Unlock()
	var chosen *server
	highest := math.Inf(-1)
	for _, s := range all {
		if !fits(s) || slices.ContainsFunc(all, func(o *server) bool {
			return o.group == s.group && o.priority < s.priority && fits(o)
		}) {
			continue
		}
		if score := s.score(source); score > highest {
			chosen, highest = s, score
		}
	}
	return chosen
}

// steering holds the seed of the hash. Each process has its own, so another process spreads sources
// differently.
var steering = maphash.MakeSeed()

// score returns the score of a server for a source (weighted rendezvous hashing). The highest wins.
func (s *server) score(source netip.Prefix) float64 {
	h := maphash.Comparable(steering, struct {
		netip.Prefix
		string
	}{source, s.name})
	const bits = 53
	uniform := (float64(h>>(64-bits)) + 0.5) / (1 << bits)
	return float64(s.weight) / -math.Log(uniform)
}

// InUse reports whether a server is in use, and still at its address.
func (ss *Servers) InUse(t Target) bool {
	return slices.ContainsFunc(*ss.all.Load(), func(s *server) bool {
		best := s.best.Load()
		return s.name == t.Name && best != nil && *best == t.At && !s.suspect.Load()
	})
}

// Targets returns the servers that are in use.
func (ss *Servers) Targets() (all []Target) {
	for _, s := range *ss.all.Load() {
		if best := s.best.Load(); best != nil && !s.suspect.Load() {
			all = append(all, Target{s.name, *best})
		}
	}
	return all
}
