package nstest_test

import (
	"net/netip"
	"strings"
	"testing"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

func TestSnapshot(t *testing.T) {
	a, b := nstest.NewHost(t, "a"), nstest.NewHost(t, "b")
	addr := []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("fd00::1/64")}
	if err := testnet.Connect(a, addr, b, nil); err != nil {
		t.Fatal(err)
	}
	nstest.Run(t, a, "nft", "add table ip example; add chain ip example c; add rule ip example c counter")
	text := nstest.Snapshot(t, a).String()
	for _, want := range []string{
		"0:\tfrom all lookup local proto kernel",
		"32766:\tfrom all lookup main",
		"local 10.0.0.1 dev b table local",
		"fd00::/64 dev b",
		"table ip example {",
		"net/ipv4/tcp_fwmark_accept = 0",
		"net/ipv4/conf/b/rp_filter = 0",
		"net/ipv4/conf/lo/route_localnet = 0",
		"net/ipv6/conf/all/forwarding = 0",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestUnchanged(t *testing.T) {
	for _, tt := range []struct {
		name, change, undo string
		diff               string
	}{
		{"rule", "ip rule add fwmark 1 lookup 100", "ip rule del fwmark 1 lookup 100", "fwmark 0x1 lookup 100"},
		{"rule 6", "ip -6 rule add fwmark 1 lookup 100", "ip -6 rule del fwmark 1 lookup 100", "fwmark 0x1 lookup 100"},
		{
			"route", "ip route add local default dev lo table 100", "ip route del local default dev lo table 100",
			"local default dev lo table 100",
		},
		{"route 6", "ip -6 route add fd99::/64 dev b", "ip -6 route del fd99::/64 dev b", "fd99::/64 dev b"},
		{"nftables", "nft add table inet mine", "nft delete table inet mine", "table inet mine"},
		{
			"sysctl", "echo 1 >/proc/sys/net/ipv4/tcp_fwmark_accept", "echo 0 >/proc/sys/net/ipv4/tcp_fwmark_accept",
			"net/ipv4/tcp_fwmark_accept = 1",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := nstest.NewHost(t, "a"), nstest.NewHost(t, "b")
			if err := testnet.Connect(a, nil, b, nil); err != nil {
				t.Fatal(err)
			}
			run := func(tb testing.TB, command string) { nstest.Run(tb, a, "sh", "-c", command) }
			undone := record(t, func(tb testing.TB) {
				nstest.Unchanged(tb, a)
				run(tb, tt.change)
				run(tb, tt.undo)
			})
			if undone.Failed() {
				t.Errorf("failed after all was undone: %s", undone.log.String())
			}
			changed := record(t, func(tb testing.TB) {
				nstest.Unchanged(tb, a)
				run(tb, tt.change)
			})
			changed.check(t, "host a is not as it was", tt.diff)
		})
	}
}
