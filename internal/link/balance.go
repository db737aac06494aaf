package link

import (
	"fmt"
	"slices"
	"strings"
)

// Balance is how peers are spread over servers.
type Balance uint8

// The ways.
const (
	Failover   Balance = iota // the first that works
	RoundRobin                // by turns
	LeastPeers                // the one that has the fewest
)

var balances = []string{"failover", "round-robin", "least-peers"}

// String is the way as in --balance.
func (b Balance) String() string { return balances[b] }

// Set reads it; with String and Type it is a flag.
func (b *Balance) Set(s string) error {
	i := slices.Index(balances, s)
	if i < 0 {
		return fmt.Errorf("%q is not one of %s", s, strings.Join(balances, ", "))
	}
	*b = Balance(i) //nolint:gosec // an index
	return nil
}

// Type is what stands for the value in a help text.
func (b *Balance) Type() string { return "way" }

// choose chooses a server that works, from which not is tried; nil if there is none.
// Of the servers of one SRV name only those of the lowest priority that works count.
func (ls *Links) choose(tried *Tried) *server {
	return ls.chooseOf(func(s *server) bool { return s.best.Load() != nil && !tried.has(s) })
}

// chooseJoined chooses of those that have joined, for a peer that waits for a link of one; nil
// also if the first that works is another.
func (ls *Links) chooseJoined(tried *Tried) *server {
	first := ls.cfg.Balance == Failover
	s := ls.chooseOf(func(s *server) bool { return (first || s.joined()) && s.best.Load() != nil && !tried.has(s) })
	if s == nil || !s.joined() {
		return nil
	}
	return s
}

// chooseOf chooses of those that fit.
func (ls *Links) chooseOf(fits func(*server) bool) *server {
	all := *ls.all.Load()
	if ls.cfg.Balance == Failover {
		for _, s := range all {
			if fits(s) {
				return s
			}
		}
		return nil
	}
	ls.turns.Lock()
	defer ls.turns.Unlock()
	var chosen *server
	total := 0
	for _, s := range all {
		if !fits(s) || slices.ContainsFunc(all, func(o *server) bool {
			return o.list == s.list && o.priority < s.priority && fits(o)
		}) {
			continue
		}
		if ls.cfg.Balance == LeastPeers {
			// Peers by weight, without a division.
			if chosen == nil || s.load()*int64(chosen.weight) < chosen.load()*int64(s.weight) {
				chosen = s
			}
			continue
		}
		// Smooth weighted round-robin: each gains its weight at every turn, and the
		// one that has most pays what all have gained.
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

// load is how many peers the server has, and those with it that wait for a link of it.
func (s *server) load() int64 {
	n := s.peers.Load()
	if s.joined() {
		n += int64(s.pool.expected())
	}
	return n
}

// Tried are servers that a peer need not be offered again. The zero value is none.
type Tried struct {
	servers []*server
	waiter  *waiter // its place in the queue; nil if it is in none
}

// Add adds the server of a link.
func (t *Tried) Add(l Link) { t.servers = append(t.servers, l.server) }

func (t *Tried) has(s *server) bool { return slices.Contains(t.servers, s) }
