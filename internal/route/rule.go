package route

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// rules are the plan's ip rules for family f.
func (p Plan) rules(f family) []netlink.Rule {
	rule := func() netlink.Rule {
		r := netlink.NewRule()
		r.Family, r.Priority, r.Table, r.Protocol = int(f), p.priority(), p.Table, Protocol
		return *r
	}
	var list []netlink.Rule
	if p.tracks(f) {
		r := rule()
		r.Mark, r.Mask = p.Marks.Route, &p.Marks.Route
		list = append(list, r)
	}
	for _, s := range p.local.of(f) {
		r := rule()
		// "iif lo" is what this machine sends itself; that nobody sends in from
		// outside as from 127.0.0.1 is not ours to rely on.
		r.Src = &net.IPNet{IP: s.addr.AsSlice(), Mask: net.CIDRMask(s.addr.BitLen(), s.addr.BitLen())}
		r.IifName, r.IPProto, r.Sport = "lo", unix.IPPROTO_TCP, netlink.NewRulePortRange(s.first, s.last)
		list = append(list, r)
	}
	return list
}

// selector is which packets a rule of ours is for, in the words of ip(8). No
// two rules of a table have the same.
func selector(r netlink.Rule) string {
	switch {
	case r.Mask != nil:
		return fmt.Sprintf("fwmark %#x/%#x", r.Mark, *r.Mask)
	case r.Src != nil && r.Sport != nil:
		return fmt.Sprintf("from %s iif %s ipproto %d sport %d-%d", r.Src.IP, r.IifName, r.IPProto, r.Sport.Start, r.Sport.End)
	}
	return ""
}

// syncRules makes our rules for f what the plan wants, and reports whether one
// had to be added. What is new comes before what is old goes, so that a service
// whose rule is exchanged is never without.
func (p Plan) syncRules(f family) (added bool, err error) {
	there, err := listRules(f)
	if err != nil {
		return false, err
	}
	there = slices.DeleteFunc(there, func(r netlink.Rule) bool { return r.Protocol != Protocol || r.Table != p.Table })
	want := p.rules(f)
	in := func(list []netlink.Rule, r netlink.Rule) bool {
		return slices.ContainsFunc(list, func(o netlink.Rule) bool {
			return o.Priority == r.Priority && selector(o) == selector(r)
		})
	}
	for _, r := range want {
		if in(there, r) {
			continue
		}
		if err := netlink.RuleAdd(&r); err != nil {
			return added, fmt.Errorf("add ip -%s rule: %w", f.flag(), err)
		}
		added = true
	}
	for _, r := range there {
		if in(want, r) {
			continue
		}
		if err := removeRule(f, r); err != nil {
			return added, err
		}
	}
	return added, nil
}

func removeRule(f family, r netlink.Rule) error {
	if err := netlink.RuleDel(&r); err != nil && !errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("delete ip -%s rule: %w", f.flag(), err)
	}
	return nil
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
		if err := removeRule(f, r); err != nil {
			return err
		}
	}
	return nil
}

// checkMarks looks for rules of others that go by one of our bits: their
// packets would come to us.
func checkMarks(m Marks) error {
	for _, f := range families {
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
