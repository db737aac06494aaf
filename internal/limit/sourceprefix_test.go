package limit_test

import (
	"net/netip"
	"testing"

	"portredirector/internal/limit"
)

func TestSourcePrefix(t *testing.T) {
	for a, want := range map[string]string{
		"192.0.2.1":               "192.0.2.1/32",
		"::ffff:192.0.2.1":        "192.0.2.1/32",
		"2001:db8:1:2:3:4:5:6":    "2001:db8:1:2::/64",
		"fe80::1%eth0":            "fe80::/64",
		"2001:db8:1:2:ffff::%one": "2001:db8:1:2::/64",
	} {
		// Compared as keys, which a zone would make different.
		if got := limit.SourcePrefix(netip.MustParseAddr(a)); got != netip.MustParsePrefix(want) {
			t.Errorf("%s: %s, want %s", a, got, want)
		}
	}
	if got := limit.SourcePrefix(netip.Addr{}); got.IsValid() {
		t.Errorf("no address: %s", got)
	}
}
