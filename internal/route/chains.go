package route

import "github.com/google/nftables"

// chain describes a chain of the nftables table.
type chain struct {
	name     string
	kind     nftables.ChainType
	hook     *nftables.ChainHook
	hookName string
	priority nftables.ChainPriority
	rules    []filterRule
}

// of returns the chain as one of a table.
func (c chain) of(t *nftables.Table) *nftables.Chain {
	return &nftables.Chain{Name: c.name, Table: t, Type: c.kind, Hooknum: c.hook, Priority: &c.priority}
}

// Priorities of our chains, relative to those that other programs use.
const (
	priorityNote  = -199 // right after conntrack: before mangle can change the mark
	priorityKeep  = -190 // before all that masquerades
	priorityRoute = -1   // after mangle, before filter, which sees the final interface
	priorityEnter = 100  // after filters of the reverse path, and after mangle
)

// chains returns the chains of the plan's table for f.
//
// A dial's packets carry the mark Track. The first chain notes that in the
// conntrack entry, as a label: other programs save and restore the whole mark
// of entries, and none touches a label. The second binds the source of the
// dial to itself, so that no masquerading changes it. The others set the mark
// Route on what the service sends.
func (p Plan) chains(f family) []chain {
	if p.Plain {
		return p.plainChains()
	}
	m := p.Marks
	toUs := setMark(m.both(), m.Route)
	enter := setMark(m.both(), m.both())
	return []chain{
		{
			name: "note", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookOutput, hookName: "output", priority: priorityNote,
			rules: append(p.keepFlow(markHas(m.Track), unlabeled(), sourceIsLocal(false)),
				filterRule{markHas(m.Track), unlabeled(), sourceIsLocal(false), setLabel()}),
		},
		{
			name: "keep", kind: nftables.ChainTypeNAT, hook: nftables.ChainHookPostrouting, hookName: "postrouting", priority: priorityKeep,
			rules: []filterRule{{labeled(), keepSource(f)}},
		},
		{
			// The kernel routes a packet again if a chain of type route changed its mark.
			name: "route", kind: nftables.ChainTypeRoute, hook: nftables.ChainHookOutput, hookName: "output", priority: priorityRoute,
			rules: []filterRule{{labeled(), sourceIsLocal(true), toUs}},
		},
		{
			// For services behind this machine.
			name: "enter", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookPrerouting, hookName: "prerouting", priority: priorityEnter,
			// After "conntrack -F" the service's packet creates a new entry, or
			// conntrack considers the packet invalid. The dial's socket is still there.
			rules: append(p.keepFlow(fromOutside(), stateIsUnknown(), socketMarkHas(m.Track)),
				filterRule{fromOutside(), stateIsUnknown(), udp(), socketMarkHas(m.Track), setLabel(), enter},
				filterRule{fromOutside(), stateIsUnknown(), noSYN(), socketMarkHas(m.Track), setLabel(), enter},
				filterRule{fromOutside(), labeled(), enter}),
		},
	}
}

// plainChains returns chains for kernels without labels, sockets or NAT in
// nftables (before Linux 4.18). They note the mark Track in the mark of the
// conntrack entry, where other programs may overwrite it.
func (p Plan) plainChains() []chain {
	m := p.Marks
	return []chain{
		{
			name: "note", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookOutput, hookName: "output", priority: priorityNote,
			rules: []filterRule{{direction(ctOriginal), markHas(m.Track), setEntryMark(m.Track)}},
		},
		{
			name: "route", kind: nftables.ChainTypeRoute, hook: nftables.ChainHookOutput, hookName: "output", priority: priorityRoute,
			rules: []filterRule{{direction(ctReply), entryMarkHas(m.Track), setMark(m.both(), m.Route)}},
		},
		{
			name: "enter", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookPrerouting, hookName: "prerouting", priority: priorityEnter,
			rules: []filterRule{{fromOutside(), direction(ctReply), entryMarkHas(m.Track), setMark(m.both(), m.both())}},
		},
	}
}

// keepFlow returns the rule that makes conntrack entries outlive the silence of a flow.
// By default the kernel forgets UDP after 30 or 120 seconds. The rule must see the first
// datagram of an entry. Without FlowTimeout there is no rule.
func (p Plan) keepFlow(datagrams ...term) []filterRule {
	if p.FlowTimeout == 0 {
		return nil
	}
	return []filterRule{append(append(filterRule{udp()}, datagrams...), setTimeout())}
}

// labelBit is the bit of the conntrack label that notes a dial.
const labelBit = 77
