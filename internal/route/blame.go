package route

import (
	"fmt"

	"portredirector/internal/ports"
)

// Blame is the kind of culprit of a finding.
type Blame uint8

// The kinds.
const (
	BlameNobody   Blame = iota // no culprit found
	BlameFirewall              // a rule drops packets
	BlameNAT                   // a rule rewrites an address
	BlameReverse               // the kernel's check of the reverse path
	BlameRule                  // an ip rule takes the replies
	BlameRoute                 // a route is missing
)

// Blame returns the kind of the culprit.
func (f Finding) Blame() Blame {
	switch {
	case f.Outcome == Rewritten || f.Outcome == Redirected:
		return BlameNAT
	case f.Mend == mendFilter || f.Mend == mendLegacy:
		return BlameFirewall
	case f.Culprit == culpritReverse:
		return BlameReverse
	case f.Mend == mendRule:
		return BlameRule
	case f.Mend == mendDefault || f.Mend == mendNoRoute:
		return BlameRoute
	}
	return BlameNobody
}

// letPass returns the command that makes a chain accept packets from or to a service.
func (s step) letPass(service ports.Endpoint, replies bool) string {
	family, direction := "ip", "daddr %s %s dport %d"
	if service.Addr().Is6() {
		family = "ip6"
	}
	if replies {
		direction = "saddr %s %s sport %d"
	}
	return fmt.Sprintf("nft insert rule %s %s %s %s "+direction+" accept", s.family, s.table, s.chain, family, service.Addr(), service.Protocol, service.Port())
}
