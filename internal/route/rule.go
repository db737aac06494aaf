package route

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"portredirector/internal/ports"
)

// Our rules have four neighboring priorities. Several servers share them.
//
// Rules of one priority differ in what they name, not only in how much: to the
// kernel a rule that is to be deleted is any that has all that is named
// (rule_find in net/core/fib_rules.c).
const (
	stepSkip  = iota // reverse path look-ups jump over the others
	stepReply        // replies of services
	stepRest         // all else that comes from a service's loopback address
	stepLand         // jumps end here
	steps
)

// maxRulePort bounds the port range of a rule: the kernel refuses 65535
// (fib_rule_port_range_valid in include/net/fib_rules.h).
const maxRulePort = 65534

// rules returns the plan's ip rules for family f, the first at priority at.
func (p Plan) rules(f family, at int) []netlink.Rule {
	var list []netlink.Rule
	add := func(step int, change func(*netlink.Rule)) {
		r := netlink.NewRule()
		r.Family, r.Priority, r.Table, r.Protocol = int(f), at+step, p.Table, Protocol
		change(r)
		list = append(list, *r)
	}
	if p.tracks(f) {
		both := p.Marks.both()
		add(stepLand, func(r *netlink.Rule) { r.Type = nl.FR_ACT_NOP })
		add(stepSkip, func(r *netlink.Rule) { r.Mark, r.Mask, r.IifName, r.Goto = both, &both, "lo", at+stepLand })
		add(stepReply, func(r *netlink.Rule) { r.Mark, r.Mask = p.Marks.Route, &p.Marks.Route })
	}
	for _, s := range p.local.of(f) {
		// "iif lo" selects packets that this machine sends itself.
		if last := min(s.last, maxRulePort); s.first <= last {
			add(stepReply, func(r *netlink.Rule) {
				r.Src, r.IifName, r.IPProto = host(s.addr), "lo", number(s.protocol)
				r.Sport = netlink.NewRulePortRange(s.first, last)
			})
		}
	}
	for _, a := range p.local.addrs(f) {
		for _, proto := range p.rest(f, a) {
			add(stepRest, func(r *netlink.Rule) { r.Src, r.IifName, r.IPProto = host(a), "lo", proto })
		}
	}
	return list
}

// rest returns the protocols of what comes from a loopback address beside the
// replies of services on other ports than the highest; 0 is any protocol.
//
// A firewall that rejects a peer answers in the place of the service: by an
// ICMP error, or by a RST that netfilter routes over IPv4 without protocol and
// ports (ip_route_me_harder). No packet from 127.0.0.0/8 may leave the machine,
// so "any" takes nothing from others, unless route_localnet is on.
//
// No packet from ::1 may leave either. The rule takes all its UDP, so that stand-ins can
// answer from any port.
func (p Plan) rest(f family, a netip.Addr) []int {
	if f == ipv4 && !p.Localnet {
		return []int{0}
	}
	protocols := []int{unix.IPPROTO_ICMP}
	if f == ipv6 {
		protocols = []int{unix.IPPROTO_ICMPV6}
	}
	highest := netip.AddrPortFrom(a, math.MaxUint16)
	for _, protocol := range []ports.Protocol{ports.TCP, ports.UDP} {
		all := f == ipv6 && protocol == ports.UDP && p.local.speak(protocol, a)
		if all || p.local.has(protocol.At(highest)) {
			protocols = append(protocols, number(protocol))
		}
	}
	return protocols
}

// number returns the number of a protocol in an IP header.
func number(p ports.Protocol) int {
	if p == ports.UDP {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}

// host returns the prefix of one address.
func host(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

// syncRules makes our rules for f those of the plan, in front of all others,
// and reports whether one had to be added. New rules come before old ones go,
// so that no service is ever without.
func (p Plan) syncRules(f family) (added bool, err error) {
	all, err := listRules(f)
	if err != nil {
		return false, err
	}
	at, blocked := place(all)
	want := p.rules(f, at)
	if len(want) == 0 {
		blocked = nil
	}
	there := slices.DeleteFunc(all, func(r netlink.Rule) bool { return r.Protocol != Protocol || r.Table != p.Table })
	in := func(list []netlink.Rule, r netlink.Rule) bool {
		return slices.ContainsFunc(list, func(o netlink.Rule) bool {
			return o.Priority == r.Priority && selector(o) == selector(r)
		})
	}
	lost := false
	for _, r := range want {
		if in(there, r) {
			continue
		}
		if err := netlink.RuleAdd(&r); err != nil {
			return added, fmt.Errorf("add ip -%s rule: %w", f.flag(), err)
		}
		lost = lost || !moved(there, r)
	}
	for _, r := range there {
		if in(want, r) {
			continue
		}
		if err := removeRule(f, r); err != nil {
			return lost, err
		}
	}
	return lost, blocked
}

// moved reports whether a rule was at another priority before.
func moved(before []netlink.Rule, r netlink.Rule) bool {
	return slices.ContainsFunc(before, func(o netlink.Rule) bool { return selector(o) == selector(r) })
}

// removeRule deletes a rule that may be gone already.
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

// retryDump repeats a dump that a concurrent change made inconsistent.
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
