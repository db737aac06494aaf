package route_test

import (
	"strings"
	"testing"

	"portredirector/internal/testnet/nstest"
)

// TestBanTools says of each program whose bans do not reach all peers what to
// use instead, where that concerns the services.
func TestBanTools(t *testing.T) {
	m2 := newM2(t)
	nstest.Run(t, m2, "nft", `
		table ip filter { chain ufw-user-input { }; chain DOCKER-USER { }; }
		table inet firewalld { }
		table ip6 crowdsec { chain crowdsec-chain-input { type filter hook input priority filter - 10; }; }`)
	nstest.Unchanged(t, m2)
	o := startOwner(t, m2, defaults)
	o.need(t, loopback4)
	line := o.WaitOutput("program=ufw")
	for _, w := range []string{"accepts interface lo", "chain = OUTPUT", "unreachable ADDRESS"} {
		if !strings.Contains(line, w) {
			t.Errorf("%q does not say %q", line, w)
		}
	}
	if strings.Contains(o.Output(), "program=Docker") {
		t.Error("it speaks of containers, without a service in one")
	}
	o.need(t, behind4, loopback6)
	o.WaitOutput("program=Docker")
	o.WaitOutput("program=CrowdSec")
	if n := strings.Count(o.Output(), "program=ufw"); n != 1 {
		t.Errorf("it speaks of ufw %d times", n)
	}
	o.end(t)
}
