package route

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// usualPriority is the priority of our first ip rule where no rule of
	// another program comes before it.
	usualPriority = 500
	// firstPriority is the lowest priority that we take. At 0 the next rule
	// that somebody adds without a priority would land behind ours, and
	// programs that add several (wg-quick) rely on the opposite order.
	firstPriority = 1
)

// place returns the priority for the first of our rules: the usual one, or as
// much less as it takes to be in front of all rules of others. A rule that is
// added without a priority lands in front of ours (fib_default_rule_pref in
// net/core/fib_rules.c), a VPN's for example, and would take the replies.
//
// Rules of other portredirector servers do not count, so that two servers
// agree instead of overtaking each other. If a rule that may take replies
// leaves no room in front of it, place returns an error that names it, and the
// best place behind it.
func place(rules []netlink.Rule) (at int, blocked error) {
	at = usualPriority
	for _, r := range rules {
		if r.Protocol == Protocol || r.Table == unix.RT_TABLE_LOCAL {
			continue
		}
		if room := r.Priority - steps; room < firstPriority {
			if blocked == nil && mayTakeReplies(r) {
				blocked = inFrontError{fmt.Errorf("ip rule %d (%s) of another program comes before ours and may take the replies: give it a priority of %d or more",
					r.Priority, describe(r), firstPriority+steps)}
			}
		} else {
			at = min(at, room)
		}
	}
	return at, blocked
}

// mayTakeReplies reports whether a rule of others may be for the packets that
// ours are for.
func mayTakeReplies(r netlink.Rule) bool {
	if r.Invert {
		return true
	}
	return r.Mark == 0 && (r.IPProto == 0 || r.IPProto == unix.IPPROTO_TCP || r.IPProto == unix.IPPROTO_UDP)
}

// ErrInFront is returned if a rule of another program leaves no room in front of it.
var ErrInFront = errors.New("a rule comes before ours")

// inFrontError is an ErrInFront that names the rule.
type inFrontError struct{ error }

// Is reports whether target is ErrInFront.
func (inFrontError) Is(target error) bool { return target == ErrInFront }
