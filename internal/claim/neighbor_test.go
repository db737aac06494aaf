package claim_test

import (
	"errors"
	"net/netip"
	"testing"

	"portredirector/internal/claim"
	"portredirector/internal/testnet/nstest"
)

// TestCheckService has a machine with the network 10.0.0.0/24, through which it reaches 10.1.0.0/24, too.
func TestCheckService(t *testing.T) {
	h := newHost(t)
	nstest.Run(t, h, "ip", "route", "add", "10.1.0.0/24", "via", "10.0.0.1")
	own := start(t, h)
	check := func(c, service string, allow ...string) error {
		p := &claim.Policy{Own: own}
		for _, s := range allow {
			p.Allow = append(p.Allow, netip.MustParsePrefix(s))
		}
		return p.CheckService(netip.MustParseAddr(c), netip.MustParseAddr(service))
	}
	for _, tt := range []struct {
		claim, service string
		refused        bool
	}{
		{"10.0.0.77", "127.0.0.1", false},
		{"10.0.0.77", "10.0.0.2", false},
		{"10.0.0.77", "10.0.0.1", true},
		{"10.0.0.77", "10.1.0.9", true},
		{"10.1.0.77", "10.1.0.9", false}, // between the router and the service: nothing is known of it
		{"10.9.0.77", "10.0.0.1", false},
		{"2001:db8::77", "2001:db8::1", true},
		{"2001:db8::77", "2001:db8::2", false},
		{"2001:db8:1::77", "2001:db8::1", false},
		{"10.0.0.77", "192.0.2.1", false}, // no route
		{"fe80::77", "::1", false},
		{"fe80::77", "2001:db8::2", true},
		{"fe80::77", "2001:db8::1", true},
	} {
		err := check(tt.claim, tt.service)
		if (err != nil) != tt.refused || tt.refused && !errors.Is(err, claim.ErrNeighbor) {
			t.Errorf("claim %s, service %s: %v, want refused: %v", tt.claim, tt.service, err, tt.refused)
		}
	}
	if err := check("10.0.0.77", "10.0.0.1", "10.0.0.0/24"); err != nil {
		t.Errorf("with permission for the network: %v", err)
	}
	if err := check("10.0.0.77", "10.0.0.1", "10.0.0.0/8"); err == nil {
		t.Error("permission for a larger network lifts the refusal")
	}
	nstest.Run(t, h, "ip", "addr", "add", "10.9.0.1/16", "dev", "far")
	await(t, own, true, "10.9.0.1")
	if err := check("10.9.0.77", "10.0.0.1"); !errors.Is(err, claim.ErrNeighbor) {
		t.Errorf("in the network of a new address: %v", err)
	}
}
