package route

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"portredirector/internal/ports"
)

// Mends of what a proof found.
const (
	mendFilter  = "let connections from any address to the service and back pass; a firewall that knows peers only may drop the address of the proof"
	mendLegacy  = "no nftables rule drops it: look at iptables-legacy"
	mendMasq    = "exclude the service from masquerading, or name another address of it"
	mendRule    = "give it a higher priority number than ours, or let it not match replies of the service"
	mendReverse = "set the sysctl net.ipv4.conf.all.src_valid_mark to 0, or rp_filter of the interface to 2"
	mendStrict  = "set the sysctl net.ipv4.conf.all.rp_filter to 2: replies come back by another interface than connections leave by"

	culpritReverse = "the kernel's check of the reverse path drops the reply"
	mendNoRoute    = "give this machine a route to the service"
	mendDefault    = "give it a default route"
)

// diagnoseLocked finds the culprit of a proof that failed. It repeats the proof, so
// that a reply that was only late is no failure. m.tracing is locked.
func (m *Manager) diagnoseLocked(f Finding, send func() (sent, error)) Finding {
	var r sent
	var err error
	checked := reverseDrops()
	steps, traceErr := m.traceLocked(f.Service.Protocol, f.Claim, func() { r, err = send() })
	if traceErr != nil && r.From != f.Claim { // it was not sent
		r, err = send()
	}
	if err != nil {
		return f
	}
	f.Outcome, f.Seen = m.judge(r)
	if _, ok := dropped(steps); ok && (f.Outcome == NoAnswer || f.Outcome == LookedUp) {
		f.Outcome, f.Seen = Lost, ""
	}
	switch f.Outcome {
	case Unproved, Holds, NoAnswer, NoService, LookedUp:
	case NoRoute:
		f.Mend = mendNoRoute
	case Rewritten:
		f.Mend = mendMasq
		if s, ok := translated(steps, nftables.ChainHookPostrouting); ok {
			f.Culprit, f.Command = s.String(), s.letPass(r.Protocol.At(f.Dialed), false)
		}
	case Redirected:
		f.Mend = fmt.Sprintf("name the service by its own address, %s", r.Flow.Dest)
		if s, ok := translated(steps, nftables.ChainHookOutput); ok {
			f.Culprit = s.String()
		}
	case NotSent, Undelivered, Lost:
		if f.Culprit, f.Mend = m.blameRouting(r); f.Culprit != "" {
			if f.Mend == mendReverse {
				f.Command = "sysctl -w net.ipv4.conf.all.src_valid_mark=0"
			}
			break
		}
		s, ok := dropped(steps)
		switch {
		case ok:
			f.Culprit, f.Mend = s.String(), mendFilter
			f.Command = s.letPass(r.Protocol.At(replyFrom(r)), f.Outcome == Lost)
		case f.Outcome == Lost && reverseDrops() > checked:
			f.Culprit, f.Mend, f.Command = culpritReverse, mendStrict, "sysctl -w net.ipv4.conf.all.rp_filter=2"
		case f.Outcome == Lost:
			f.Mend = mendLegacy
		case f.Service.Protocol == ports.UDP && f.Outcome != NotSent: // UDP has no accept queue
			f.Mend = mendLegacy
		default: // a full queue of the service, or of connection tracking, looks alike
			f.Outcome = NoAnswer
		}
	}
	return f
}

// replyFrom returns the source of the replies to a probe.
func replyFrom(r sent) netip.AddrPort {
	if r.Flow != nil {
		return r.Flow.Dest
	}
	return r.To
}

// blameRouting looks whether the replies to a probe are routed to this machine,
// and returns the rule or setting to blame if they are not.
func (m *Manager) blameRouting(r sent) (culprit, mend string) {
	l := m.replyLookup(r)
	got, err := l.ask()
	switch {
	case !l.routable(), r.wildcard && !m.bindings.source(r.From.Addr()).IsValid():
		return "this machine has no route for replies", mendDefault
	case errors.Is(err, syscall.EXDEV), l.in != 0 && errors.Is(err, syscall.EINVAL):
		return culpritReverse, mendReverse
	case err == nil && got.kind == unix.RTN_LOCAL:
		return "", ""
	}
	if rule, ok := m.ruleInFront(familyOf(r.To.Addr()), got.table); ok {
		return fmt.Sprintf("ip rule %d (%s) takes the replies", rule.Priority, describe(rule)), mendRule
	}
	return "", ""
}

// ruleInFront returns the first rule of others in front of ours that may have led
// a reply to a table, or to any for table 0.
func (m *Manager) ruleInFront(f family, table int) (netlink.Rule, bool) {
	rules, err := listRules(f)
	if err != nil {
		return netlink.Rule{}, false
	}
	for _, r := range rules {
		switch {
		case r.Protocol == Protocol && r.Table == m.ready.Load().Table:
			return netlink.Rule{}, false
		case r.Protocol != Protocol && r.Table != unix.RT_TABLE_LOCAL && mayTakeReplies(r) && (table == 0 || table == r.Table):
			return r, true
		}
	}
	return netlink.Rule{}, false
}

// replyLookup returns the question for the route of the replies to a probe.
func (m *Manager) replyLookup(r sent) lookup {
	plan := m.ready.Load()
	l := lookup{protocol: r.Protocol, from: replyFrom(r), to: r.From}
	to, err := lookup{to: l.from}.ask()
	switch {
	case r.Mark == 0: // by a rule for the address
	case err == nil && to.kind != unix.RTN_LOCAL:
		l.mark, l.in = plan.Marks.both(), to.out
	default:
		l.mark = plan.Marks.Route
	}
	return l
}

// judge decides what the result of a probe means.
func (m *Manager) judge(r sent) (Outcome, string) {
	return judge(r, isLocal, func(netip.AddrPort) bool {
		l := m.replyLookup(r)
		got, err := l.ask()
		return err == nil && got.kind == unix.RTN_LOCAL && l.routable()
	})
}
