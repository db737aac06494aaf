package route

import (
	"fmt"
	"net/netip"
	"strings"

	"portredirector/internal/ports"
	"portredirector/internal/probe"
)

// Outcome is the result of a proof.
type Outcome uint8

// The outcomes. After Rewritten, Redirected, Lost and NoRoute no peer can be
// served.
const (
	Unproved    Outcome = iota // its turn has yet to come
	Holds                      // a reply arrived, and the source was kept
	NoService                  // an ICMP error arrived: no program has the UDP port
	LookedUp                   // a UDP service kept silent; the kernel's routes would bring its replies back
	NoAnswer                   // the service did not answer; its return route is not to blame
	NotSent                    // a filter of this machine dropped the SYN or datagram
	Undelivered                // the SYN or datagram did not reach a service on this machine
	NoRoute                    // this machine has no route to the service
	Rewritten                  // the service saw another source address
	Redirected                 // a service on loopback was replaced by another one
	Lost                       // a reply came, and did not arrive
)

// outcomes are the outcomes in words.
var outcomes = [...]string{
	Unproved:    "not proved yet",
	Holds:       "the return route holds",
	NoService:   "no program has the port; an ICMP error came back",
	LookedUp:    "the service keeps silent, and by the kernel's routes its replies come back",
	NoAnswer:    "the service does not answer",
	NotSent:     "a rule of this machine drops the connection before it leaves",
	Undelivered: "the connection does not reach the service on this machine",
	NoRoute:     "this machine has no route to the service",
	Rewritten:   "a rule of this machine rewrites the source",
	Redirected:  "a rule of this machine leads the connection elsewhere",
	Lost:        "no reply came back",
}

// String returns the outcome in words.
func (o Outcome) String() string { return outcomes[o] }

// Finding describes one proof of the return route of a service.
type Finding struct {
	Service ports.Endpoint
	Dialed  netip.AddrPort // the dialed address, which differs from Service for a UDP service bound to all addresses
	Claim   netip.AddrPort // the source of the proof
	Outcome Outcome
	Seen    string // what tells of the outcome; may be empty
	Culprit string // the rule, chain or setting to blame; empty if it was not found
	Mend    string // what an administrator can do about it; may be empty
	Command string // the command for the mend; may be empty

	sent    sent   // the probe
	changes uint64 // Manager.changes before the probe
}

// Err returns an error in one line if the return route does not hold.
func (f Finding) Err() error {
	switch f.Outcome {
	case Unproved, Holds, NoService, LookedUp, NoAnswer:
		return nil
	default:
		return findingError{f}
	}
}

// Refuses reports whether peers are to be refused. They are not if a rule drops
// the proof before the service: it may be for the claim of the proof alone.
func (f Finding) Refuses() bool {
	switch f.Outcome {
	case NoRoute, Rewritten, Redirected, Lost:
		return true
	default:
		return false
	}
}

// findingError is a finding as an error.
type findingError struct{ Finding }

func (e findingError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (a dial from %s to %s", e.Outcome, e.Claim, e.Service)
	if e.Dialed.IsValid() && e.Dialed != e.Service.AddrPort {
		fmt.Fprintf(&b, " at %s", e.Dialed.Addr())
	}
	b.WriteString(")")
	for _, part := range []string{e.Seen, e.Culprit, e.Mend} {
		if part != "" {
			b.WriteString(": " + part)
		}
	}
	return b.String()
}

// sent is a probe with further observations.
type sent struct {
	probe.Result

	standIn   bool // a stand-in replaced the service
	delivered bool // the stand-in got the datagram
	wildcard  bool // the kernel chooses the source of the service's answers
}

// judge decides what the result of a probe means. local reports whether an
// address is this machine's, replyLeads whether its replies are led back.
func judge(r sent, local func(netip.Addr) bool, replyLeads func(netip.AddrPort) bool) (o Outcome, seen string) {
	dest := r.To
	if r.Flow != nil {
		dest = r.Flow.Dest
	}
	switch {
	case r.Flow != nil && r.Flow.Source.Addr() != r.From.Addr():
		return Rewritten, fmt.Sprintf("the service sees %s", r.Flow.Source.Addr())
	case r.Arrived && r.Protocol == ports.UDP && r.Err != nil:
		return NoService, ""
	case r.Arrived && r.Err != nil:
		return Holds, r.Err.Error()
	case r.Arrived:
		return Holds, ""
	case !r.Sent:
		return NoRoute, r.Err.Error()
	case r.Err != nil:
		return NoAnswer, r.Err.Error()
	case r.To.Addr().IsLoopback() && dest != r.To:
		return Redirected, fmt.Sprintf("it went to %s", dest)
	case r.Flow != nil && r.Flow.Replied:
		return Lost, ""
	case r.delivered:
		return Lost, ""
	case local(dest.Addr()) && !replyLeads(dest):
		return Lost, ""
	case local(dest.Addr()) && (r.Protocol == ports.TCP || r.standIn):
		return Undelivered, ""
	case r.Flow == nil && r.Mark != 0:
		return NotSent, ""
	case r.Protocol == ports.TCP:
		return NoAnswer, ""
	case !replyLeads(dest):
		return Lost, ""
	}
	return LookedUp, ""
}
