package route_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"portredirector/internal/route"
	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

func TestPlace(t *testing.T) {
	rule := func(priority int, change ...func(*netlink.Rule)) netlink.Rule {
		r := netlink.NewRule()
		r.Priority, r.Table = priority, unix.RT_TABLE_MAIN
		for _, c := range change {
			c(r)
		}
		return *r
	}
	table := func(n int) func(*netlink.Rule) { return func(r *netlink.Rule) { r.Table = n } }
	ours := func(r *netlink.Rule) { r.Table, r.Protocol = 7700, route.Protocol }
	marked := func(r *netlink.Rule) { r.Mark = 0x1 }
	not := func(r *netlink.Rule) { r.Invert = true }
	udp := func(r *netlink.Rule) { r.IPProto = unix.IPPROTO_UDP }
	gre := func(r *netlink.Rule) { r.IPProto = unix.IPPROTO_GRE }
	usual := []netlink.Rule{rule(0, table(unix.RT_TABLE_LOCAL)), rule(32766), rule(32767)}
	tests := map[string]struct {
		more    []netlink.Rule
		at      int
		blocked string
	}{
		"nothing else":                  {nil, 500, ""},
		"later rules":                   {[]netlink.Rule{rule(504), rule(1000)}, 500, ""},
		"an earlier rule":               {[]netlink.Rule{rule(503)}, 499, ""},
		"several":                       {[]netlink.Rule{rule(100), rule(50), rule(300)}, 46, ""},
		"just room":                     {[]netlink.Rule{rule(5)}, 1, ""},
		"rules of our servers":          {[]netlink.Rule{rule(10, ours), rule(199)}, 195, ""},
		"the local table elsewhere":     {[]netlink.Rule{rule(1, table(unix.RT_TABLE_LOCAL))}, 500, ""},
		"no room":                       {[]netlink.Rule{rule(4)}, 500, "ip rule 4 (lookup 254)"},
		"no room, and another":          {[]netlink.Rule{rule(1), rule(100)}, 96, "ip rule 1 "},
		"no room before a mark":         {[]netlink.Rule{rule(1, marked), rule(100)}, 96, ""},
		"no room before all but a mark": {[]netlink.Rule{rule(1, marked, not)}, 500, "not fwmark 0x1"},
		"no room before UDP":            {[]netlink.Rule{rule(0, udp)}, 500, "ip rule 0 (ipproto 17"},
		"no room before GRE":            {[]netlink.Rule{rule(0, gre)}, 500, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			at, blocked := route.Place(append(usual, tt.more...))
			if at != tt.at {
				t.Errorf("place is %d, want %d", at, tt.at)
			}
			if text := fmt.Sprint(blocked); tt.blocked == "" && blocked != nil || tt.blocked != "" && !strings.Contains(text, tt.blocked) {
				t.Errorf("blocked by %q, want %q", text, tt.blocked)
			}
		})
	}
}

// inFront reports whether all our ip rules of a family come right after table
// local, and after them so many rules of others that have no usual priority.
func inFront(t *testing.T, h *testnet.Host, family string, others int) bool {
	t.Helper()
	left, done := 0, false
	for _, line := range strings.Split(strings.TrimSpace(nstest.Run(t, h, "ip", family, "rule")), "\n")[1:] {
		ours := strings.Contains(line, "proto 77")
		if ours && done {
			return false
		}
		done = done || !ours
		if !ours && !strings.HasPrefix(line, "3276") {
			left++
		}
	}
	return left == others
}

// TestMovesInFront adds rules without a priority while two servers run, and
// removes them again.
func TestMovesInFront(t *testing.T) {
	m2 := newM2(t)
	nstest.Unchanged(t, m2)
	a, b := startOwner(t, m2, defaults), startOwner(t, m2, defaults)
	a.need(t, loopback4, loopback6, own4, own6)
	b.need(t, own4, own6)
	before := ours(t, m2)
	for _, family := range []string{"-4", "-6"} {
		// As wg-quick does: the second has to land in front of the first.
		nstest.Run(t, m2, "ip", family, "rule", "add", "not", "fwmark", "51820", "table", "51820")
		nstest.Run(t, m2, "ip", family, "rule", "add", "table", "main", "suppress_prefixlength", "0")
		wait := func(what string, count int) {
			t.Helper()
			nstest.WaitFor(t, what, func() bool { return inFront(t, m2, family, count) })
		}
		wait("both in front", 2)
		rules := nstest.Run(t, m2, "ip", family, "rule")
		if main, all := strings.Index(rules, "suppress"), strings.Index(rules, "not from"); main > all {
			t.Errorf("the order of the others changed:\n%s", rules)
		}
		for i := range 15 { // each takes the place in front of all, for a moment
			nstest.Run(t, m2, "ip", family, "rule", "add", "iif", fmt.Sprint("eth", i), "table", "main")
		}
		wait("both in front of many", 17)
		for i := range 15 {
			nstest.Run(t, m2, "ip", family, "rule", "del", "iif", fmt.Sprint("eth", i), "table", "main")
		}
		nstest.Run(t, m2, "ip", family, "rule", "del", "not", "fwmark", "51820", "table", "51820")
		nstest.Run(t, m2, "ip", family, "rule", "del", "table", "main", "suppress_prefixlength", "0")
	}
	nstest.WaitFor(t, "both to be where they were", func() bool { return strings.Join(before, "\n") == strings.Join(ours(t, m2), "\n") })
	for _, o := range []*owner{a, b} {
		if strings.Contains(o.Output(), "removed from outside") {
			t.Error("a rule that moved was taken for one that was removed")
		}
		o.end(t)
	}
}

// TestNoRoomInFront names the rule that leaves no room.
func TestNoRoomInFront(t *testing.T) {
	m2 := newM2(t)
	nstest.Unchanged(t, m2)
	o := startOwner(t, m2, defaults)
	o.need(t, own4)
	nstest.Run(t, m2, "ip", "rule", "add", "pref", "2", "to", "192.0.2.0/24", "lookup", "main")
	line := o.WaitOutput("return route is incomplete")
	for _, w := range []string{"ip rule 2 (to 192.0.2.0/24 lookup 254)", "priority of 5 or more"} {
		if !strings.Contains(line, w) {
			t.Errorf("%q does not say %q", line, w)
		}
	}
	nstest.Run(t, m2, "ip", "rule", "del", "pref", "2")
	o.end(t)
}

// TestPlainKernel has return routes without the parts of nftables that old
// kernels lack.
func TestPlainKernel(t *testing.T) {
	m2 := newM2(t)
	nstest.Unchanged(t, m2)
	o := startOwner(t, m2, defaults+" plain")
	o.need(t, own4, own6, behind4, behind6)
	if rules := nstest.Run(t, m2, "nft", "list", "ruleset"); strings.Contains(rules, "label") || strings.Contains(rules, "nat") {
		t.Errorf("it is not plain:\n%s", rules)
	}
	o.end(t)
}
