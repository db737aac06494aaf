package route

import (
	"fmt"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
)

// filterName returns the name of the nftables tables.
func (p Plan) filterName() string { return fmt.Sprintf("portredirector-%d", p.Table) }

// String prints the plan as the commands of ip(8) and nft(8) that would do the
// same, with the rules at their usual priority.
func (p Plan) String() string {
	var b strings.Builder
	for _, f := range families {
		if p.needs(f) {
			fmt.Fprintf(&b, "ip -%s route add local default dev lo table %d protocol %d\n", f.flag(), p.Table, Protocol)
		}
		if p.tracks(f) {
			fmt.Fprintf(&b, "nft -f - <<EOF\n%sEOF\n", p.filter(f))
		}
	}
	for _, f := range families {
		for _, r := range p.rules(f, usualPriority) {
			fmt.Fprintf(&b, "ip -%s rule add priority %d %s protocol %d\n", f.flag(), r.Priority, describe(r), Protocol)
		}
	}
	return b.String()
}

// filter prints the nftables table in the language of nft(8).
func (p Plan) filter(f family) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s %s {\n", f.nft(), p.filterName())
	if seconds := int(p.FlowTimeout / time.Second); seconds > 0 && !p.Plain {
		fmt.Fprintf(&b, "\tct timeout %s {\n\t\tprotocol udp\n\t\tpolicy = { unreplied : %d, replied : %d }\n\t}\n", flowTimeout, seconds, seconds)
	}
	for _, c := range p.chains(f) {
		fmt.Fprintf(&b, "\tchain %s {\n\t\ttype %s hook %s priority %d\n", c.name, c.kind, c.hookName, c.priority)
		for _, r := range c.rules {
			fmt.Fprintf(&b, "\t\t%s\n", r.text())
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// describe prints a rule in the words of ip(8), without its priority.
func describe(r netlink.Rule) string { return strings.TrimSpace(selector(r) + " " + action(r)) }

// selector prints the packets that a rule is for. No two rules of one priority
// and table have the same.
func selector(r netlink.Rule) string {
	var words []string
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	if r.Invert {
		add("not")
	}
	if r.Src != nil {
		add("from %s", r.Src)
	}
	if r.Dst != nil {
		add("to %s", r.Dst)
	}
	if r.Mark != 0 || r.Mask != nil {
		mask := ^uint32(0)
		if r.Mask != nil {
			mask = *r.Mask
		}
		add("fwmark %#x/%#x", r.Mark, mask)
	}
	if r.IifName != "" {
		add("iif %s", r.IifName)
	}
	if r.OifName != "" {
		add("oif %s", r.OifName)
	}
	if r.IPProto != 0 {
		add("ipproto %d", r.IPProto)
	}
	if r.Sport != nil {
		add("sport %d-%d", r.Sport.Start, r.Sport.End)
	}
	if r.Dport != nil {
		add("dport %d-%d", r.Dport.Start, r.Dport.End)
	}
	return strings.Join(words, " ")
}

// action prints the effect of a rule.
func action(r netlink.Rule) string {
	switch {
	case r.Goto > 0:
		return fmt.Sprintf("goto %d", r.Goto)
	case r.Type == nl.FR_ACT_NOP:
		return fmt.Sprintf("table %d nop", r.Table)
	}
	return fmt.Sprintf("lookup %d", r.Table)
}
