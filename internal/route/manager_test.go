package route_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

const defaults = "0x30000000 7700"

// Services of every kind, on the host that newM2 makes.
const (
	loopback4, loopback6 = "127.0.0.1:80", "[::1]:80"
	own4, own6           = "10.1.0.2:80", "[fd01::2]:80"
	behind4, behind6     = "10.1.0.1:80", "[fd01::1]:80"
)

// newM2 returns a machine with a neighbor that has its default routes.
func newM2(t *testing.T) *testnet.Host {
	t.Helper()
	m2, _ := newM2WithNeighbor(t)
	return m2
}

func newM2WithNeighbor(t *testing.T) (m2, isp *testnet.Host) {
	t.Helper()
	m2, isp = nstest.NewHost(t, "m2"), nstest.NewHost(t, "isp")
	prefixes := func(s ...string) (list []netip.Prefix) {
		for _, p := range s {
			list = append(list, netip.MustParsePrefix(p))
		}
		return list
	}
	if err := testnet.Connect(m2, prefixes("10.1.0.2/24", "fd01::2/64"), isp, prefixes("10.1.0.1/24", "fd01::1/64")); err != nil {
		t.Fatal(err)
	}
	for dst, via := range map[string]string{"0.0.0.0/0": "10.1.0.1", "::/0": "fd01::1"} {
		if err := m2.AddRoute(netip.MustParsePrefix(dst), netip.MustParseAddr(via)); err != nil {
			t.Fatal(err)
		}
	}
	return m2, isp
}

// ours are the lines of the host's state that tell of us.
func ours(t *testing.T, h *testnet.Host) []string {
	t.Helper()
	var lines []string
	s := nstest.Snapshot(t, h)
	for _, l := range slices.Concat(s.Rules, s.Routes, s.Nftables) {
		l, _, _ = strings.Cut(l, " #") // newer nft names the program
		if strings.Contains(l, "proto 77") || strings.Contains(l, "portredirector") {
			lines = append(lines, strings.Join(strings.Fields(l), " "))
		}
	}
	slices.Sort(lines) // a rule that was put back is behind others of its priority
	return lines
}

// TestOnlyWhatIsNeeded looks at what is in the kernel for each service.
func TestOnlyWhatIsNeeded(t *testing.T) {
	const (
		skip   = "500: from all fwmark 0x30000000/0x30000000 iif lo lookup 7700 goto 503 proto 77"
		mark   = "501: from all fwmark 0x20000000/0x20000000 lookup 7700 proto 77"
		land   = "503: from all lookup 7700 nop proto 77"
		rest6  = "502: from ::1 iif lo ipproto ipv6-icmp lookup 7700 proto 77"
		route4 = "local default dev lo table 7700 proto 77 scope host"
		route6 = "local default dev lo table 7700 proto 77 scope global metric 1024 pref medium"
		nft4   = "table ip portredirector-7700 {"
		nft6   = "table ip6 portredirector-7700 {"
	)
	from := func(addr, ports string) string {
		return fmt.Sprintf("501: from %s iif lo ipproto tcp sport %s lookup 7700 proto 77", addr, ports)
	}
	rest := func(addr string) string { return fmt.Sprintf("502: from %s iif lo lookup 7700 proto 77", addr) }
	tests := map[string]struct {
		services []string
		want     []string
	}{
		"nothing": {nil, nil},
		"IPv4 loopback": {
			[]string{loopback4, "127.1.2.3:80"},
			[]string{from("127.0.0.1", "80"), from("127.1.2.3", "80"), rest("127.0.0.1"), rest("127.1.2.3"), route4},
		},
		"IPv6 loopback":   {[]string{loopback6}, []string{from("::1", "80"), rest6, route6}},
		"neighbors":       {[]string{"127.0.0.1:80 127.0.0.1:82 127.0.0.1:81"}, []string{from("127.0.0.1", "80-82"), rest("127.0.0.1"), route4}},
		"neighbors later": {[]string{loopback4, "127.0.0.1:82", "127.0.0.1:81"}, []string{from("127.0.0.1", "80-82"), rest("127.0.0.1"), route4}},
		"the last port": {
			[]string{"127.0.0.1:65534", "127.0.0.1:65535", "[::1]:65535"},
			[]string{
				from("127.0.0.1", "65534"), rest("127.0.0.1"), route4,
				rest6, "502: from ::1 iif lo ipproto tcp lookup 7700 proto 77", route6,
			},
		},
		"own IPv4 address": {[]string{own4, behind4}, []string{skip, mark, land, route4, nft4}},
		"own IPv6 address": {[]string{own6, behind6}, []string{skip, mark, land, route6, nft6}},
		"all": {
			[]string{loopback4, loopback6, own4, own6},
			[]string{
				from("127.0.0.1", "80"), rest("127.0.0.1"), from("::1", "80"), rest6,
				skip, skip, mark, mark, land, land, route4, route6, nft4, nft6,
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m2 := newM2(t)
			nstest.Unchanged(t, m2)
			o := startOwner(t, m2, defaults)
			o.need(t, tt.services...)
			got := ours(t, m2)
			want := slices.Sorted(slices.Values(tt.want))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			o.end(t)
		})
	}
}

// TestHeals removes each part from outside, and all at once.
func TestHeals(t *testing.T) {
	all := []string{loopback4, loopback6, own4, own6}
	tests := map[string][]string{
		"IPv4 rule":      {"ip", "rule", "del", "priority", "501"},
		"IPv6 rule":      {"ip", "-6", "rule", "del", "priority", "501"},
		"all IPv4 rules": {"sh", "-c", "ip rule flush && ip rule add priority 32766 lookup main protocol kernel && ip rule add priority 32767 lookup default protocol kernel"},
		"IPv4 table":     {"ip", "route", "flush", "table", "7700"},
		"IPv6 table":     {"ip", "-6", "route", "flush", "table", "7700"},
		"lo down and up": {"sh", "-c", "ip link set lo down && ip link set lo up"},
		"everything": {"sh", "-c", "for p in 500 501 502 503; do while ip rule del priority $p; do :; done; while ip -6 rule del priority $p; do :; done; done; " +
			"ip route flush table 7700; ip -6 route flush table 7700"},
	}
	for name, remove := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m2 := newM2(t)
			nstest.Unchanged(t, m2)
			o := startOwner(t, m2, defaults)
			if name == "lo down and up" {
				o.need(t, loopback4) // IPv6 routes would be announced
			} else {
				o.need(t, all...)
			}
			want := ours(t, m2)
			// Twice: the first may be mended by the look that follows the start.
			for range 2 {
				nstest.Run(t, m2, remove[0], remove[1:]...)
				nstest.WaitFor(t, "everything to be back", func() bool { return slices.Equal(want, ours(t, m2)) })
			}
			o.end(t)
		})
	}
}

// TestFilterIsOwned: nobody else can remove our nftables table, not even by
// "flush ruleset", which other programs' restarts do.
func TestFilterIsOwned(t *testing.T) {
	m2 := newM2(t)
	nstest.Unchanged(t, m2)
	o := startOwner(t, m2, defaults)
	o.need(t, own4)
	nstest.Run(t, m2, "nft", "flush", "ruleset")
	nstest.Run(t, m2, "sh", "-c", "! nft delete table ip portredirector-7700")
	if !slices.Contains(ours(t, m2), "table ip portredirector-7700 {") {
		t.Errorf("the table is gone: %q", ours(t, m2))
	}
	o.end(t)
}

// TestSweep kills a server; the next to start or to stop removes what it left.
func TestSweep(t *testing.T) {
	t.Run("by the next to start", func(t *testing.T) {
		m2 := newM2(t)
		nstest.Unchanged(t, m2)
		o := startOwner(t, m2, defaults)
		o.need(t, loopback4, own6)
		o.kill()
		if left := ours(t, m2); len(left) == 0 {
			t.Fatal("a killed server left nothing: this test proves nothing")
		}
		startOwner(t, m2, defaults).end(t)
	})
	t.Run("by one with another table", func(t *testing.T) {
		m2 := newM2(t)
		nstest.Unchanged(t, m2)
		o := startOwner(t, m2, defaults)
		o.need(t, loopback4, own6)
		o.kill()
		startOwner(t, m2, "0x30000000 100").end(t)
	})
	t.Run("by one that stays", func(t *testing.T) {
		m2 := newM2(t)
		nstest.Unchanged(t, m2)
		stays, dies := startOwner(t, m2, defaults), startOwner(t, m2, defaults)
		dies.need(t, loopback4, own4)
		dies.kill()
		stays.end(t)
	})
}

// TestTwoServers starts two, ends them in every order and way, and looks
// after each step whether the one that is left still works.
func TestTwoServers(t *testing.T) {
	type step struct{ first, second string } // how the server that ends first, and second, does
	for _, services := range [][2][]string{
		{{loopback4}, {loopback4}},
		{{loopback4, own4}, {loopback6}},
		{{own4}, {loopback4, own6}},
	} {
		for _, s := range []step{{"end", "end"}, {"kill", "end"}, {"end", "kill"}, {"kill", "kill"}} {
			for _, firstToEnd := range []int{0, 1} {
				t.Run(fmt.Sprintf("%v/%v/%d first", services, s, firstToEnd), func(t *testing.T) {
					t.Parallel()
					m2 := newM2(t)
					nstest.Unchanged(t, m2)
					var owners [2]*owner
					for i := range owners {
						owners[i] = startOwner(t, m2, defaults)
						owners[i].need(t, services[i]...)
					}
					both := ours(t, m2)
					stop := func(o *owner, how string) {
						if how == "end" {
							o.end(t)
						} else {
							o.kill()
						}
					}
					stop(owners[firstToEnd], s.first)
					// What is left must be enough for the other, and is
					// proved anew by a third.
					left := owners[1-firstToEnd]
					settled := ours(t, m2)
					if s.first == "end" && len(settled) >= len(both) {
						t.Errorf("the first to end removed nothing: %q", settled)
					}
					stop(left, s.second)
					if s.second == "kill" || s.first == "kill" {
						startOwner(t, m2, defaults).end(t)
					}
				})
			}
		}
	}
}

// TestFailureLeavesOthersAlone: a way that cannot be had is taken back without
// touching those that are in use, not even for a moment.
func TestFailureLeavesOthersAlone(t *testing.T) {
	m2 := newM2(t)
	nstest.Run(t, m2, "sysctl", "-q", "-w", "net.ipv6.conf.lo.disable_ipv6=1")
	nstest.Unchanged(t, m2)
	o := startOwner(t, m2, defaults)
	o.need(t, loopback4, own4)
	before := ours(t, m2)
	watch := nstest.Start(t, m2, "ip", "-ts", "monitor", "rule", "route")
	time.Sleep(200 * time.Millisecond) // for it to listen
	fmt.Fprintln(o.in, loopback6)
	if line := o.WaitOutput("error [::1]"); !strings.Contains(line, "IPv6 is disabled") || strings.Contains(line, "CAP_NET_ADMIN") {
		t.Errorf("it says %q", line)
	}
	if after := ours(t, m2); !slices.Equal(before, after) {
		t.Errorf("before %q, after %q", before, after)
	}
	time.Sleep(200 * time.Millisecond)
	for line := range strings.Lines(watch.Output()) {
		if strings.Contains(line, "Deleted") {
			t.Errorf("something was deleted meanwhile: %s", line)
		}
	}
	o.end(t)
}

// TestReadOnlySysctls: a container may not write to /proc/sys, and need not.
func TestReadOnlySysctls(t *testing.T) {
	m2 := newM2(t)
	nstest.Unchanged(t, m2)
	o := tryOwner(t, m2, defaults, "unshare", "--mount", "sh", "-c",
		`mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$0"`)
	o.need(t, loopback4, loopback6, own4, own6)
	o.end(t)
}

// TestRouteLocalnet: where visitors from outside may be led to loopback, it
// says what that means.
func TestRouteLocalnet(t *testing.T) {
	m2 := newM2(t)
	nstest.Run(t, m2, "sysctl", "-q", "-w", "net.ipv4.conf.isp.route_localnet=1")
	nstest.Unchanged(t, m2)
	o := startOwner(t, m2, defaults)
	o.need(t, loopback4)
	if line := o.WaitOutput("route_localnet is on"); !strings.Contains(line, "interfaces=isp") {
		t.Errorf("it says %q", line)
	}
	o.end(t)
}

// TestRandomLives lets several servers come, grow, go and be killed while
// parts are removed at random, and looks for what is left at the end.
func TestRandomLives(t *testing.T) {
	m2 := newM2(t)
	nstest.Unchanged(t, m2)
	services := []string{loopback4, loopback6, own4, own6, behind4, behind6}
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var alive []*owner
	killed := false // and nobody has swept since
	for range 40 {
		switch n := random.IntN(6); {
		case n < 2 && len(alive) < 4:
			alive, killed = append(alive, startOwner(t, m2, defaults)), false
		case n < 4 && len(alive) > 0:
			alive[random.IntN(len(alive))].need(t, services[random.IntN(len(services))])
		case n == 4 && len(alive) > 0:
			i := random.IntN(len(alive))
			if random.IntN(2) == 0 {
				alive[i].end(t)
			} else {
				alive[i].kill()
				killed = true
			}
			alive = slices.Delete(alive, i, i+1)
		case n == 5 && !killed:
			before := ours(t, m2)
			flush(t, m2, 7700+random.IntN(4))
			nstest.WaitFor(t, "the routes to be back", func() bool { return slices.Equal(ours(t, m2), before) })
		}
	}
	for _, o := range alive {
		o.end(t)
	}
	startOwner(t, m2, defaults).end(t)
}

// flush removes all routes of a table.
func flush(t *testing.T, h *testnet.Host, table int) {
	t.Helper()
	nstest.Run(t, h, "sh", "-c", fmt.Sprintf("ip route flush table %d; ip -6 route flush table %d; true", table, table))
}
