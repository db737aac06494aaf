package upstream

import (
	"fmt"
	"slices"
	"strings"
)

// Balance says how peers are spread over servers.
type Balance uint8

// The ways of spreading.
const (
	Failover   Balance = iota // the first that is in use
	RoundRobin                // in turn
	LeastPeers                // the one with the fewest peers
)

var balances = []string{"failover", "round-robin", "least-peers"}

// String returns the name.
func (b Balance) String() string { return balances[b] }

// Set parses a name; with String and Type it makes a flag.
func (b *Balance) Set(s string) error {
	i := slices.Index(balances, s)
	if i < 0 {
		return fmt.Errorf("%q is not one of %s", s, strings.Join(balances, ", "))
	}
	*b = Balance(i) //nolint:gosec // an index
	return nil
}

// Type returns the word for the value in a help text.
func (b *Balance) Type() string { return "way" }

// choose returns a server that is in use and not among tried, and nil if there is none.
// Of the servers of one SRV name only those of the lowest priority that is in use count.
// A suspect is chosen only if there is no other.
func (ss *Servers) choose(tried *Tried) *server {
	all := *ss.all.Load()
	usable := func(s *server) bool { return s.best.Load() != nil && !tried.has(s) }
	if s := ss.chooseOf(all, func(s *server) bool { return !s.suspect.Load() && usable(s) }); s != nil {
		return s
	}
	return ss.chooseOf(all, usable)
}

// chooseOf chooses from the servers that fit.
func (ss *Servers) chooseOf(all []*server, fits func(*server) bool) *server {
	if ss.cfg.Balance == Failover {
		for _, s := range all {
			if fits(s) {
				return s
			}
		}
		return nil
	}
	ss.turns.Lock()
	defer ss.turns.Unlock()
	var chosen *server
	total := 0
	for _, s := range all {
		if !fits(s) || slices.ContainsFunc(all, func(o *server) bool {
			return o.group == s.group && o.priority < s.priority && fits(o)
		}) {
			continue
		}
		if ss.cfg.Balance == LeastPeers {
			// Peers by weight, without a division.
			if chosen == nil || s.load()*int64(chosen.weight) < chosen.load()*int64(s.weight) {
				chosen = s
			}
			continue
		}
		// Smooth weighted round-robin: each gains its weight at every turn, and the
		// chosen one pays what all have gained.
		s.current += s.weight
		total += s.weight
		if chosen == nil || s.current > chosen.current {
			chosen = s
		}
	}
	if chosen != nil {
		chosen.current -= total
	}
	return chosen
}
