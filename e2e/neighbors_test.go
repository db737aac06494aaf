package e2e_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// neighbor is another program on M2 that has rules, marks or NAT of its own.
type neighbor struct {
	name string
	up   string // commands that set up what the program sets up
	down string // commands that undo it, beside the removal of all foreign tables of nftables
}

// neighbors lists programs with the rules that they write.
var neighbors = []neighbor{
	{
		"wg-quick with a default route", // wg-quick(8), add_default and its nftables table
		`
ip link add wg0 type bridge
ip addr add 10.200.0.2/32 dev wg0
ip link set wg0 up
for f in -4 -6; do
	ip $f route add default dev wg0 table 51820
	ip $f rule add not fwmark 51820 table 51820
	ip $f rule add table main suppress_prefixlength 0
done
sysctl -qw net.ipv4.conf.all.src_valid_mark=1
nft -f - <<NFT
table ip wg-quick-wg0 {
	chain preraw { type filter hook prerouting priority -300; iifname != "wg0" ip daddr 10.200.0.2 fib saddr type != local drop; }
	chain premangle { type filter hook prerouting priority -150; meta l4proto udp meta mark set ct mark; }
	chain postmangle { type filter hook postrouting priority -150; meta l4proto udp mark 51820 ct mark set mark; }
}
NFT
`,
		`
for f in -4 -6; do
	ip $f rule del not fwmark 51820 table 51820
	ip $f rule del table main suppress_prefixlength 0
done
ip link del wg0
sysctl -qw net.ipv4.conf.all.src_valid_mark=0
`,
	},
	{
		"two uplinks by source", // "post-up ip rule add from …" of ifupdown
		`
ip route add default via 192.0.2.1 table 200
ip rule add from 192.0.2.2 lookup 200
ip rule add from 172.30.0.0/24 lookup 200
ip rule add from 10.0.0.2 lookup 200
ip -6 route add default via 2001:db8:2::1 table 200
ip -6 rule add from 2001:db8:2::2 lookup 200
ip -6 rule add from fd00:30::/64 lookup 200
ip route add 10.0.0.0/24 dev m1 table 200
`,
		`
ip rule del from 192.0.2.2; ip rule del from 172.30.0.0/24; ip rule del from 10.0.0.2
ip -6 rule del from 2001:db8:2::2; ip -6 rule del from fd00:30::/64
ip route flush table 200; ip -6 route flush table 200
`,
	},
	{
		"Tailscale", // router_linux.go, netfilter mode "on", with reverse path look-ups by mark
		`
for f in -4 -6; do
	ip $f rule add pref 5210 fwmark 0x80000/0xff0000 lookup main
	ip $f rule add pref 5230 fwmark 0x80000/0xff0000 lookup default
	ip $f rule add pref 5250 fwmark 0x80000/0xff0000 type unreachable
	ip $f rule add pref 5270 lookup 52
done
ip route add throw 127.0.0.0/8 table 52
sysctl -qw net.ipv4.conf.all.src_valid_mark=1 net.ipv4.conf.all.rp_filter=2
iptables -N ts-input; iptables -N ts-forward; iptables -t nat -N ts-postrouting
iptables -I INPUT -j ts-input; iptables -I FORWARD -j ts-forward; iptables -t nat -I POSTROUTING -j ts-postrouting
iptables -A ts-input -s 100.64.0.7 -i lo -j ACCEPT
iptables -A ts-input -s 100.115.92.0/23 ! -i tailscale0 -j RETURN
iptables -A ts-input -s 100.64.0.0/10 ! -i tailscale0 -j DROP
iptables -A ts-forward -i tailscale0 -j MARK --set-xmark 0x40000/0xff0000
iptables -A ts-forward -m mark --mark 0x40000/0xff0000 -j ACCEPT
iptables -A ts-forward -s 100.64.0.0/10 -o tailscale0 -j DROP
iptables -A ts-forward -o tailscale0 -j ACCEPT
iptables -t nat -A ts-postrouting -m mark --mark 0x40000/0xff0000 -j MASQUERADE
iptables -t mangle -A PREROUTING -m conntrack --ctstate ESTABLISHED,RELATED -j CONNMARK --restore-mark --nfmask 0xff0000 --ctmask 0xff0000
iptables -t mangle -A OUTPUT -m conntrack --ctstate NEW -m mark ! --mark 0/0xff0000 -j CONNMARK --save-mark --nfmask 0xff0000 --ctmask 0xff0000
`,
		`
for f in -4 -6; do for p in 5210 5230 5250 5270; do ip $f rule del pref $p; done; done
ip route flush table 52
sysctl -qw net.ipv4.conf.all.src_valid_mark=0 net.ipv4.conf.all.rp_filter=0
`,
	},
	{
		"firewalld with a zone that masquerades", // the nftables backend's table
		`
nft -f - <<NFT
table inet firewalld {
	chain filter_PREROUTING {
		type filter hook prerouting priority filter + 10; policy accept;
		icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
		meta nfproto ipv6 fib saddr . mark . iif oif missing drop
	}
	chain filter_INPUT {
		type filter hook input priority filter + 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname "lo" accept
		ct state invalid drop
		tcp dport 12345 ct state { new, untracked } accept
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
		reject with icmpx admin-prohibited
	}
	chain filter_FORWARD {
		type filter hook forward priority filter + 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname "lo" accept
		ct state invalid drop
		reject with icmpx admin-prohibited
	}
	chain filter_OUTPUT {
		type filter hook output priority filter + 10; policy accept;
		ct state { established, related } accept
		oifname "lo" accept
	}
	chain nat_POSTROUTING {
		type nat hook postrouting priority srcnat + 10; policy accept;
		oifname { "br0", "isp2" } jump nat_POST_external
	}
	chain nat_POST_external {
		oifname != "lo" masquerade
	}
}
NFT
`,
		``,
	},
	{
		"ufw", // before.rules and before6.rules
		`
for t in iptables ip6tables; do
	$t -N ufw-before-input; $t -A INPUT -j ufw-before-input
	$t -A ufw-before-input -i lo -j ACCEPT
	$t -A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
	$t -A ufw-before-input -m conntrack --ctstate INVALID -j DROP
	$t -A ufw-before-input -p tcp --dport 12345 -j ACCEPT
	$t -N ufw-before-output; $t -A OUTPUT -j ufw-before-output
	$t -A ufw-before-output -o lo -j ACCEPT
	$t -A ufw-before-output -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
	$t -A ufw-before-output -m conntrack --ctstate NEW -j ACCEPT
	$t -P INPUT DROP; $t -P FORWARD DROP
done
ip6tables -A ufw-before-input -p icmpv6 -j ACCEPT
ip6tables -A ufw-before-output -p icmpv6 -j ACCEPT
iptables -N ufw-not-local; iptables -A ufw-before-input -j ufw-not-local
iptables -A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN
iptables -A ufw-not-local -j DROP
`,
		``,
	},
	{
		"Docker without its proxy", // dockerd --userland-proxy=false
		`
sysctl -qw net.ipv4.conf.br0.route_localnet=1
iptables -P FORWARD DROP
iptables -N DOCKER; iptables -N DOCKER-USER
iptables -A FORWARD -j DOCKER-USER
iptables -A FORWARD -o br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A FORWARD -o br0 -j DOCKER
iptables -A FORWARD -i br0 ! -o br0 -j ACCEPT
iptables -t raw -A PREROUTING -d 172.30.0.2/32 ! -i br0 -j DROP
iptables -t nat -N DOCKER
iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
iptables -t nat -A OUTPUT -m addrtype --dst-type LOCAL -j DOCKER
iptables -t nat -A POSTROUTING -o br0 -m addrtype --src-type LOCAL -j MASQUERADE
iptables -t nat -A POSTROUTING -s 172.30.0.0/24 ! -o br0 -j MASQUERADE
iptables -t nat -A DOCKER -p tcp --dport 8080 -j DNAT --to-destination 172.30.0.2:80
`,
		`sysctl -qw net.ipv4.conf.br0.route_localnet=0`,
	},
	{
		"Podman", // netavark with iptables
		`
for t in iptables ip6tables; do
	net=172.30.0.0/24; guest=172.30.0.2; all=224.0.0.0/4
	[ $t = iptables ] || { net=fd00:30::/64; guest=[fd00:30::2]; all=ff00::/8; }
	for c in NETAVARK-HOSTPORT-SETMARK NETAVARK-HOSTPORT-MASQ NETAVARK-HOSTPORT-DNAT NETAVARK-1 NETAVARK-DN-1; do $t -t nat -N $c; done
	$t -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j NETAVARK-HOSTPORT-DNAT
	$t -t nat -A OUTPUT -m addrtype --dst-type LOCAL -j NETAVARK-HOSTPORT-DNAT
	$t -t nat -A POSTROUTING -j NETAVARK-HOSTPORT-MASQ
	$t -t nat -A POSTROUTING -s $net -j NETAVARK-1
	$t -t nat -A NETAVARK-1 -d $net -j ACCEPT
	$t -t nat -A NETAVARK-1 ! -d $all -j MASQUERADE
	$t -t nat -A NETAVARK-HOSTPORT-SETMARK -j MARK --set-xmark 0x2000/0x2000
	$t -t nat -A NETAVARK-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
	$t -t nat -A NETAVARK-HOSTPORT-DNAT -p tcp --dport 8080 -j NETAVARK-DN-1
	$t -t nat -A NETAVARK-DN-1 -s $net -p tcp --dport 8080 -j NETAVARK-HOSTPORT-SETMARK
	$t -t nat -A NETAVARK-DN-1 -p tcp --dport 8080 -j DNAT --to-destination $guest:80
done
`,
		``,
	},
	{
		"flannel", // its iptables masquerading
		`
iptables -t nat -N FLANNEL-POSTRTG; iptables -t nat -A POSTROUTING -j FLANNEL-POSTRTG
iptables -t nat -A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -j RETURN
iptables -t nat -A FLANNEL-POSTRTG -s 172.30.0.0/24 -d 172.30.0.0/16 -j RETURN
iptables -t nat -A FLANNEL-POSTRTG -s 172.30.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE --random-fully
iptables -t nat -A FLANNEL-POSTRTG ! -s 172.30.0.0/16 -d 172.30.0.0/16 -j MASQUERADE --random-fully
ip6tables -t nat -A POSTROUTING ! -s fd00:30::/64 -d fd00:30::/64 -j MASQUERADE --random-fully
`,
		``,
	},
	{
		"hairpin", // "-o BRIDGE -j MASQUERADE", in many recipes
		`
iptables -t nat -A POSTROUTING -o br0 -j MASQUERADE
ip6tables -t nat -A POSTROUTING -o br0 -j MASQUERADE
iptables -t nat -A POSTROUTING -d 192.0.2.2 -j MASQUERADE
`,
		``,
	},
	{
		"mwan3", // mwan3.sh, two uplinks, its mask 0x3f00
		`
ip rule add pref 1001 iif isp2 lookup 1; ip rule add pref 2001 fwmark 0x100/0x3f00 lookup 1
ip rule add pref 2061 fwmark 0x3d00/0x3f00 type blackhole; ip rule add pref 2062 fwmark 0x3e00/0x3f00 type unreachable
ip rule add pref 3001 fwmark 0x100/0x3f00 type unreachable
ip route add default via 192.0.2.1 table 1
ip route add 172.30.0.0/24 dev br0 table 1 # as mwan3rtmon does
for c in hook ifaces_in rules; do iptables -t mangle -N mwan3_$c; done
iptables -t mangle -A PREROUTING -j mwan3_hook; iptables -t mangle -A OUTPUT -j mwan3_hook
iptables -t mangle -A mwan3_hook -m mark --mark 0x0/0x3f00 -j CONNMARK --restore-mark --nfmask 0x3f00 --ctmask 0x3f00
iptables -t mangle -A mwan3_hook -m mark --mark 0x0/0x3f00 -j mwan3_ifaces_in
iptables -t mangle -A mwan3_hook -m mark --mark 0x0/0x3f00 -j mwan3_rules
iptables -t mangle -A mwan3_hook -j CONNMARK --save-mark --nfmask 0x3f00 --ctmask 0x3f00
iptables -t mangle -A mwan3_ifaces_in -i isp2 -m mark --mark 0x0/0x3f00 -j MARK --set-xmark 0x100/0x3f00
iptables -t mangle -A mwan3_rules -d 203.0.113.0/24 -m mark --mark 0x0/0x3f00 -j MARK --set-xmark 0x100/0x3f00
iptables -t mangle -A mwan3_rules -d 198.51.100.0/24 -m mark --mark 0x0/0x3f00 -j MARK --set-xmark 0x100/0x3f00
`,
		`for p in 1001 2001 2061 2062 3001; do ip rule del pref $p; done; ip route flush table 1`,
	},
	{
		"GKE", // netd's policy routing
		`
sysctl -qw net.ipv4.conf.all.src_valid_mark=1 net.ipv4.conf.all.rp_filter=2
ip rule add pref 74 fwmark 0x4000/0x4000 lookup main
ip rule add pref 75 iif isp2 lookup main
for t in iptables ip6tables; do
	$t -t mangle -N GCP-PREROUTING; $t -t mangle -A PREROUTING -j GCP-PREROUTING
	$t -t mangle -N GCP-POSTROUTING; $t -t mangle -A POSTROUTING -j GCP-POSTROUTING
	$t -t mangle -A GCP-PREROUTING -j CONNMARK --restore-mark
	$t -t mangle -A GCP-POSTROUTING -m mark --mark 0x4000/0x4000 -j CONNMARK --save-mark
done
`,
		`ip rule del pref 74; ip rule del pref 75; sysctl -qw net.ipv4.conf.all.src_valid_mark=0 net.ipv4.conf.all.rp_filter=0`,
	},
	{
		"uplinks by whole marks", // the usual recipe for several uplinks
		`
ip rule add fwmark 1 lookup 201; ip route add default via 192.0.2.1 table 201
for t in iptables ip6tables; do
	$t -t mangle -A PREROUTING -j CONNMARK --restore-mark
	$t -t mangle -A PREROUTING -i isp2 -m mark --mark 0 -j MARK --set-mark 1
	$t -t mangle -A PREROUTING -j CONNMARK --save-mark
	$t -t mangle -A OUTPUT -j CONNMARK --restore-mark
	$t -t mangle -A POSTROUTING -j CONNMARK --save-mark
done
iptables -t mangle -A OUTPUT -d 203.0.113.10 -j MARK --set-mark 1
`,
		`ip rule del fwmark 1; ip route flush table 201`,
	},
	{
		"NixOS with iptables", // networking.firewall.checkReversePath
		`
for t in iptables ip6tables; do
	$t -t mangle -N nixos-fw-rpfilter; $t -t mangle -A PREROUTING -j nixos-fw-rpfilter
	$t -t mangle -A nixos-fw-rpfilter -m rpfilter --validmark -j RETURN
	$t -t mangle -A nixos-fw-rpfilter -j DROP
done
`,
		``,
	},
	{
		"NixOS with nftables", // networking.nftables, checkReversePath
		`
nft -f - <<NFT
table inet nixos-fw {
	chain rpfilter {
		type filter hook prerouting priority mangle + 10; policy drop;
		meta nfproto ipv4 udp sport . udp dport { 67 . 68, 68 . 67 } accept
		icmpv6 type { nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept
		fib saddr . mark . iif oif exists accept
	}
}
NFT
`,
		``,
	},
	{
		"a firewall of the reverse path that comes last",
		`
nft -f - <<NFT
table inet last {
	chain prerouting {
		type filter hook prerouting priority 300; policy accept;
		icmpv6 type { nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept
		fib saddr . mark . iif oif missing drop
	}
}
NFT
`,
		``,
	},
}

// TestNeighbors lets programs come to M2 and go while a server runs there, and peers ask services of every kind each time.
func TestNeighbors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	asks := []struct {
		peer    peer
		port    uint16
		service *net.TCPListener
	}{
		{w.alice, 80, listen(t, w.m2, "127.0.0.1:80")},
		{w.carol, 80, listen(t, w.m2, "[::1]:80")},
		{w.alice, 81, listen(t, w.guest, "172.30.0.2:80")},
		{w.carol, 82, listen(t, w.guest, "[fd00:30::2]:80")},
		{w.alice, 83, listen(t, w.m2, "192.0.2.2:80")},
		{w.carol, 84, listen(t, w.m2, "[2001:db8:2::2]:80")},
	}
	w.server(t, "-p 80 -p 81=172.30.0.2:80 -p 82=[fd00:30::2]:80 -p 83=192.0.2.2:80 -p 84=[2001:db8:2::2]:80")
	w.client(t, "-p 80 -p 81 -p 82 -p 83 -p 84")
	for _, n := range neighbors {
		nstest.Run(t, w.m2, "sh", "-ec", n.up)
		waitInFront(t, w.m2)
		for _, a := range asks {
			t.Run(fmt.Sprintf("%s/%s/%d", n.name, a.peer.Name, a.port), func(t *testing.T) {
				s := newSession(t, a.peer, a.port, a.service)
				s.talk(t)
				s.peer.Close()
				s.service.Close()
			})
		}
		nstest.Run(t, w.m2, "sh", "-ec", "nft flush ruleset\n"+n.down)
		waitInFront(t, w.m2)
	}
}

// waitInFront waits until our ip rules come before those of others.
func waitInFront(t *testing.T, h *testnet.Host) {
	t.Helper()
	nstest.WaitFor(t, "our rules to be in front", func() bool {
		for _, family := range []string{"-4", "-6"} {
			rules := strings.Split(strings.TrimSpace(nstest.Run(t, h, "ip", family, "rule")), "\n")
			ours := 1 // after table local
			for ours < len(rules) && strings.Contains(rules[ours], "proto 77") {
				ours++
			}
			if ours == 1 || strings.Contains(strings.Join(rules[ours:], "\n"), "proto 77") {
				return false
			}
		}
		return true
	})
}
