package returnroute

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink"
)

// ruleOf is the plan's ip rule for family f.
func (p Plan) ruleOf(f family) *netlink.Rule {
	r := netlink.NewRule()
	r.Family = int(f)
	r.Priority = p.priority()
	r.Mark, r.Mask = p.Marks.Route, &p.Marks.Route
	r.Table = p.Table
	r.Protocol = Protocol
	return r
}

// addRule adds the plan's rule for f if it is not there, and reports whether
// it had to.
func (p Plan) addRule(f family) (added bool, err error) {
	rules, err := listRules(f)
	if err != nil {
		return false, err
	}
	want := p.ruleOf(f)
	for _, r := range rules {
		if r.Protocol == Protocol && r.Table == want.Table && r.Priority == want.Priority &&
			r.Mark == want.Mark && r.Mask != nil && *r.Mask == *want.Mask {
			return false, nil
		}
	}
	if err := netlink.RuleAdd(want); err != nil {
		return false, fmt.Errorf("add ip -%s rule: %w", f.flag(), err)
	}
	return true, nil
}

// removeRules removes every rule of ours that leads to table.
func removeRules(f family, table int) error {
	rules, err := listRules(f)
	if err != nil {
		return err
	}
	for _, r := range rules {
		if r.Protocol != Protocol || r.Table != table {
			continue
		}
		if err := netlink.RuleDel(&r); err != nil && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("delete ip -%s rule: %w", f.flag(), err)
		}
	}
	return nil
}

// checkMarks looks for rules of others that go by one of our bits: their
// packets would come to us.
func checkMarks(f family, m Marks) error {
	rules, err := listRules(f)
	if err != nil {
		return err
	}
	for _, r := range rules {
		if r.Protocol != Protocol && r.Mark&(m.Route|m.Track) != 0 {
			return fmt.Errorf("an ip rule of another program (priority %d, fwmark %#x) uses a bit of our mark %#x: choose two free bits with --mark",
				r.Priority, r.Mark, m.Route|m.Track)
		}
	}
	return nil
}

// listRules lists the ip rules of family f; a kernel without the family has
// none.
func listRules(f family) ([]netlink.Rule, error) {
	rules, err := retryDump(func() ([]netlink.Rule, error) { return netlink.RuleList(int(f)) })
	if errors.Is(err, syscall.EAFNOSUPPORT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list ip -%s rules: %w", f.flag(), err)
	}
	return rules, nil
}

// retryDump repeats a dump that a change under way made inconsistent.
func retryDump[T any](dump func() ([]T, error)) ([]T, error) {
	const tries = 5
	var list []T
	var err error
	for range tries {
		list, err = dump()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return list, err
}
