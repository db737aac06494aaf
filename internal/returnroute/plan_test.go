package returnroute_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/returnroute"
)

func TestWayTo(t *testing.T) {
	tests := map[string]returnroute.Way{
		"127.0.0.1":        returnroute.LoopbackV4,
		"127.1.2.3":        returnroute.LoopbackV4,
		"::ffff:127.0.0.1": returnroute.LoopbackV4,
		"::1":              returnroute.LoopbackV6,
		"172.17.0.2":       returnroute.TrackedV4,
		"192.0.2.1":        returnroute.TrackedV4,
		"2001:db8::1":      returnroute.TrackedV6,
	}
	for addr, want := range tests {
		if got := returnroute.WayTo(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

func TestParseMarks(t *testing.T) {
	got, err := returnroute.ParseMarks(0x30000000)
	if want := (returnroute.Marks{Route: 0x20000000, Track: 0x10000000}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if got, err = returnroute.ParseMarks(0x80000001); err != nil || got.Route != 0x80000000 || got.Track != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, mask := range []uint32{0, 1, 7, 0xffffffff} {
		if _, err := returnroute.ParseMarks(mask); err == nil {
			t.Errorf("%#x was taken", mask)
		}
	}
}

// TestPlan holds the plans to what an administrator would type.
func TestPlan(t *testing.T) {
	const (
		v4 = `ip -4 route add local default dev lo table 7700 protocol 77
`
		v6 = `ip -6 route add local default dev lo table 7700 protocol 77
`
		accept   = "sysctl -w net.ipv4.tcp_fwmark_accept=1\n"
		reflect4 = "sysctl -w net.ipv4.fwmark_reflect=1\n"
		reflect6 = "sysctl -w net.ipv6.fwmark_reflect=1\n"
		rule4    = `ip -4 rule add priority 97 fwmark 0x20000000/0x20000000 lookup 7700 protocol 77
`
		rule6 = `ip -6 rule add priority 97 fwmark 0x20000000/0x20000000 lookup 7700 protocol 77
`
		nft4 = `nft -f - <<EOF
table ip portredirector-7700 {
	chain output {
		type route hook output priority mangle
		ct direction original meta mark and 0x10000000 == 0x10000000 ct mark set ct mark or 0x10000000
		ct direction reply ct mark and 0x10000000 == 0x10000000 meta mark set mark or 0x20000000
	}
	chain prerouting {
		type filter hook prerouting priority mangle
		ct direction reply ct mark and 0x10000000 == 0x10000000 meta mark set mark or 0x20000000
	}
}
EOF
`
	)
	nft6 := strings.Replace(nft4, "table ip ", "table ip6 ", 1)
	tests := []struct {
		ways returnroute.Way
		want string
	}{
		{0, ""},
		{returnroute.LoopbackV4, v4 + accept + reflect4 + rule4},
		{returnroute.LoopbackV6, v6 + accept + reflect6 + rule6},
		{returnroute.LoopbackV4 | returnroute.LoopbackV6, v4 + v6 + accept + reflect4 + reflect6 + rule4 + rule6},
		{returnroute.TrackedV4, v4 + nft4 + rule4},
		{returnroute.TrackedV6, v6 + nft6 + rule6},
		{returnroute.LoopbackV4 | returnroute.TrackedV6, v4 + v6 + nft6 + accept + reflect4 + rule4 + rule6},
	}
	for _, tt := range tests {
		t.Run(tt.ways.String(), func(t *testing.T) {
			p := returnroute.Plan{
				Ways: tt.ways, Table: 7700,
				Marks: returnroute.Marks{Route: 0x20000000, Track: 0x10000000},
			}
			if diff := cmp.Diff(tt.want, p.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
