package route_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// breaks are rules and settings of other programs, by the service that they break
// the return route of.
var breaks = map[string]struct {
	service    string
	does, undo string
	want       []string // parts of what is logged
}{
	"masquerading on loopback": {
		service: loopback4,
		does:    "nft 'add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }; add rule ip nat post tcp dport 80 snat to 127.0.0.9'",
		undo:    "nft delete table ip nat",
		want:    []string{"peers are refused", "the service sees 127.0.0.9", "chain post of nftables table ip nat"},
	},
	"masquerading by iptables": {
		service: loopback4,
		does:    "iptables -t nat -A POSTROUTING -p tcp --dport 80 -j SNAT --to-source 127.0.0.9",
		undo:    "iptables -t nat -F; nft delete table ip nat",
		want:    []string{"peers are refused", "the service sees 127.0.0.9", "chain POSTROUTING of nftables table ip nat"},
	},
	"port published without docker-proxy": {
		service: loopback4,
		does:    "iptables -t nat -A OUTPUT -p tcp -m addrtype --dst-type LOCAL --dport 80 -j DNAT --to-destination 10.1.0.1:80",
		undo:    "iptables -t nat -F; nft delete table ip nat",
		want:    []string{"peers are refused", "it went to 10.1.0.1:80", "chain OUTPUT of nftables table ip nat", "name the service by its own address, 10.1.0.1:80"},
	},
	"IPv6 port published without docker-proxy": {
		service: loopback6,
		does:    "nft 'add table ip6 nat; add chain ip6 nat out { type nat hook output priority -100; }; add rule ip6 nat out tcp dport 80 dnat to [fd01::1]:80'",
		undo:    "nft delete table ip6 nat",
		want:    []string{"peers are refused", "it went to [fd01::1]:80", "chain out of nftables table ip6 nat"},
	},
	"a rule in front": {
		service: loopback4,
		does:    "ip route add default via 10.1.0.1 table 99; ip rule add priority 1 lookup 99",
		undo:    "ip rule del priority 1; ip route flush table 99",
		want:    []string{"peers are refused", "no reply came back", "ip rule 1 (lookup 99) takes the replies"},
	},
	"replies dropped": {
		service: behind4,
		does:    "nft 'add table inet f; add chain inet f in { type filter hook input priority 0; }; add rule inet f in tcp sport 80 drop'",
		undo:    "nft delete table inet f",
		want:    []string{"peers are refused", "no reply came back", "chain in of nftables table inet f"},
	},
	"IPv6 replies dropped": {
		service: behind6,
		does:    "nft 'add table inet f; add chain inet f in { type filter hook input priority 0; }; add rule inet f in tcp sport 80 drop'",
		undo:    "nft delete table inet f",
		want:    []string{"peers are refused", "no reply came back", "chain in of nftables table inet f"},
	},
	"replies dropped before connection tracking": {
		service: behind4,
		does:    "iptables -t raw -A PREROUTING -p tcp --sport 80 -j DROP",
		undo:    "iptables -t raw -F; nft delete table ip raw",
		want:    []string{"peers are refused", "no reply came back", "chain PREROUTING of nftables table ip raw"},
	},
	"SYN dropped at the exit": {
		service: behind4,
		does:    "nft 'add table inet f; add chain inet f out { type filter hook output priority 0; }; add rule inet f out ip daddr 10.1.0.1 tcp dport 80 drop'",
		undo:    "nft delete table inet f",
		want:    []string{"before it leaves", "chain out of nftables table inet f"},
	},
	"SYN dropped at the service": {
		service: own6,
		does:    "ip6tables -A INPUT -p tcp --dport 80 -j DROP",
		undo:    "ip6tables -F; nft delete table ip6 filter",
		want:    []string{"does not reach the service", "chain INPUT of nftables table ip6 filter"},
	},
	"UDP masqueraded by port": {
		service: loopback4 + "/udp",
		does:    "nft 'add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }; add rule ip nat post udp dport 80 snat to 127.0.0.9'",
		undo:    "nft delete table ip nat",
		want:    []string{"peers are refused", "the service sees 127.0.0.9", "chain post of nftables table ip nat"},
	},
	"UDP published without docker-proxy": {
		service: loopback4 + "/udp",
		does:    "iptables -t nat -A OUTPUT -p udp -m addrtype --dst-type LOCAL --dport 80 -j DNAT --to-destination 10.1.0.1:80",
		undo:    "iptables -t nat -F; nft delete table ip nat",
		want:    []string{"peers are refused", "it went to 10.1.0.1:80", "chain OUTPUT of nftables table ip nat"},
	},
	"a rule in front of UDP": {
		service: loopback6 + "/udp",
		does:    "ip -6 route add default via fd01::1 table 99; ip -6 rule add priority 1 ipproto udp lookup 99",
		undo:    "ip -6 rule del priority 1; ip -6 route flush table 99",
		want:    []string{"peers are refused", "no reply came back", "ip rule 1 (ipproto 17 lookup 99) takes the replies"},
	},
	"UDP answers of one port dropped": {
		service: own4 + "/udp",
		does:    "nft 'add table inet f; add chain inet f out { type filter hook output priority 0; }; add rule inet f out udp sport 80 drop'",
		undo:    "nft delete table inet f",
		want:    []string{"peers are refused", "no reply came back", "chain out of nftables table inet f"},
	},
	"UDP answers of another machine dropped": {
		service: behind6 + "/udp",
		does:    "nft 'add table inet f; add chain inet f in { type filter hook prerouting priority 200; }; add rule inet f in udp sport 80 drop'",
		undo:    "nft delete table inet f",
		want:    []string{"peers are refused", "no reply came back", "chain in of nftables table inet f"},
	},
	"a datagram dropped at the exit": {
		service: behind4 + "/udp",
		does:    "nft 'add table inet f; add chain inet f out { type filter hook output priority 0; }; add rule inet f out ip daddr 10.1.0.1 udp dport 80 drop'",
		undo:    "nft delete table inet f",
		want:    []string{"before it leaves", "chain out of nftables table inet f"},
	},
	"a datagram dropped at the service": {
		service: own6 + "/udp",
		does:    "ip6tables -A INPUT -p udp --dport 80 -j DROP",
		undo:    "ip6tables -F; nft delete table ip6 filter",
		want:    []string{"does not reach the service", "chain INPUT of nftables table ip6 filter"},
	},
	"no way to answer for a service on 0.0.0.0": {
		service: "127.0.0.1:82/udp",
		does:    "ip route del default",
		undo:    "ip route add default via 10.1.0.1",
		want:    []string{"peers are refused", "no reply came back", "no route for replies", "default route"},
	},
	"no route": {
		service: "192.0.2.9:80",
		does:    "ip route add unreachable 192.0.2.0/24",
		undo:    "ip route del unreachable 192.0.2.0/24",
		want:    []string{"peers are refused", "no route to the service"},
	},
}

// TestBreaksAndHeals breaks the return route of a service while others are in use.
// It is noticed, with the culprit, and so is the end of it; the others go on.
func TestBreaksAndHeals(t *testing.T) {
	for name, tt := range breaks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m2 := newServed(t)
			nstest.Unchanged(t, m2)
			o := startOwner(t, m2, defaults)
			const other4, other6 = "127.0.0.1:81", "[::1]:81"
			o.need(t, tt.service, other4, other6)
			nstest.Run(t, m2, "sh", "-ec", tt.does)
			line := o.waitLog(t, "return route does not hold", tt.service)
			for _, w := range tt.want {
				if !strings.Contains(line, w) {
					t.Errorf("%q does not say %q", line, w)
				}
			}
			if name != "a rule in front" { // which is in front of all
				o.need(t, other6, other4)
			}
			nstest.Run(t, m2, "sh", "-c", tt.undo)
			o.waitLog(t, "return route holds again", tt.service)
			o.need(t, tt.service)
			o.end(t)
		})
	}
}

// waitLog waits until the child logs the message about the service, and returns that line. Another service may be first.
func (o *owner) waitLog(t *testing.T, message, service string) (line string) {
	t.Helper()
	nstest.WaitFor(t, fmt.Sprintf("%q of %s", message, service), func() bool {
		for line = range strings.Lines(o.Output()) {
			names := strings.Contains(line, "service="+service) || strings.Contains(line, fmt.Sprintf("service=%q", service))
			if names && strings.Contains(line, message) && strings.HasSuffix(line, "\n") {
				return true
			}
		}
		return false
	})
	return line
}

// newServed returns the host of newM2 with services on all of its addresses and
// on its neighbor, whose replies go by way of the host.
func newServed(t *testing.T) *testnet.Host {
	t.Helper()
	m2, isp := newM2WithNeighbor(t)
	nstest.Run(t, isp, "sh", "-ec", "ip route add default via 10.1.0.2; ip -6 route add default via fd01::2")
	for _, at := range []string{loopback4, loopback6, "127.0.0.1:81", "[::1]:81", own4, own6} {
		nstest.Echo(t, m2, netip.MustParseAddrPort(at))
	}
	for _, at := range []string{behind4, behind6} {
		nstest.Echo(t, isp, netip.MustParseAddrPort(at))
		serveUDP(t, isp, "udp", at, false)
	}
	for _, at := range []string{loopback4, loopback6, own4, own6, "0.0.0.0:82"} {
		serveUDP(t, m2, "udp", at, true)
	}
	return m2
}

// TestProofsLeaveNothing proves again and again, with and without a culprit to
// look for, and counts descriptors. A process that is killed leaves no table.
func TestProofsLeaveNothing(t *testing.T) {
	m2 := newServed(t)
	nstest.Unchanged(t, m2)
	o := startOwner(t, m2, defaults)
	o.need(t, loopback4, behind6)
	nstest.Run(t, m2, "sh", "-ec", breaks["port published without docker-proxy"].does)
	o.WaitOutput("return route does not hold")
	prove := func() {
		before := strings.Count(o.Output(), "have "+behind6)
		fmt.Fprintln(o.in, loopback4) // which does not hold
		fmt.Fprintln(o.in, behind6)
		nstest.WaitFor(t, "a proof", func() bool { return strings.Count(o.Output(), "have "+behind6) > before })
	}
	prove()
	before := nstest.Descriptors(t, o.Pid())
	for range 10 {
		prove()
	}
	nstest.WaitFor(t, "as few descriptors as before", func() bool { return nstest.Descriptors(t, o.Pid()) <= before })
	o.kill()
	for _, l := range ours(t, m2) {
		if strings.Contains(l, "table") && strings.Contains(l, "portredirector-") {
			t.Errorf("a killed process left %q", l)
		}
	}
	nstest.Run(t, m2, "sh", "-c", breaks["port published without docker-proxy"].undo)
	startOwner(t, m2, defaults).end(t)
}

// TestInterfacesLost takes all interfaces but lo away, as an engine does that
// starts a container anew whose network the server shares.
func TestInterfacesLost(t *testing.T) {
	m2 := newM2(t)
	o := startOwner(t, m2, defaults)
	o.need(t, loopback4)
	nstest.Run(t, m2, "ip", "link", "del", "isp")
	if line := o.WaitOutput("peers cannot come"); !strings.Contains(line, "no interface is left but lo") {
		t.Error(line)
	}
	nstest.Run(t, m2, "sh", "-ec", "ip link add name isp type veth peer name x; ip link set isp up")
	o.WaitOutput("there is an interface again")
	o.end(t)
}
