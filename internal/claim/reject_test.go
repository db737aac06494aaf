package claim_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"portredirector/internal/claim"
)

// TestRejectedByRoute adds routes as fail2ban's action "route" does, and
// removes them.
func TestRejectedByRoute(t *testing.T) {
	h := newHost(t)
	ip(t, h, "route add blackhole 203.0.113.1")
	policy := claim.Policy{Own: start(t, h)}
	await := func(a, want string) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Microsecond) {
			text := ""
			if err := policy.Check(netip.MustParseAddr(a)); err != nil {
				text = err.Error()
			}
			if want == "" && text == "" || want != "" && strings.Contains(text, want) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %q, want %q", a, text, want)
			}
		}
	}
	await("203.0.113.1", "banned by a route of this machine")
	for _, tt := range []struct{ route, banned, other, permits string }{
		{"unreachable 198.51.100.2", "198.51.100.2", "198.51.100.3", "198.51.100.2/32"},
		{"prohibit 198.51.100.2", "198.51.100.2", "198.51.100.3", "198.51.100.2/32"},
		{"blackhole 198.51.100.0/24", "198.51.100.9", "198.51.101.1", "198.51.100.0/24"},
		{"unreachable 2001:db8:9::2", "2001:db8:9::2", "2001:db8:9::3", "2001:db8:9::2/128"},
		{"blackhole 2001:db8:9::/48", "2001:db8:9::7", "2001:db8:a::1", "2001:db8:9::/48"},
	} {
		family := "-4"
		if strings.Contains(tt.route, ":") {
			family = "-6"
		}
		ip(t, h, family+" route add "+tt.route)
		await(tt.banned, "it needs permission for "+tt.permits)
		await(tt.other, "")
		ip(t, h, family+" route del "+tt.route)
		await(tt.banned, "")
	}
	// A router rejects whole networks, which says nothing about peers.
	ip(t, h, "route add blackhole 10.0.0.0/8", "-6 route add unreachable fc00::/7", "route add unreachable 198.51.100.2")
	await("198.51.100.2", "banned")
	await("10.9.9.9", "")
	await("fd09::1", "")
}
