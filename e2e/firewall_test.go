package e2e_test

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"portredirector/internal/testnet/nstest"
)

// TestConntrackFlush flushes conntrack under a live connection (mwan3's flush_conntrack, a script of a reconnect), and changes
// routes, after which no cached route leads replies back.
func TestConntrackFlush(t *testing.T) {
	for _, tt := range []struct {
		service, peer string
		behind        bool   // on the guest
		first         string // which end sends first after the flush
	}{
		{guest80, "alice", true, "service"},
		{guest80, "alice", true, "peer"},
		{"[fd00:30::2]:80", "carol", true, "service"},
		// The service's own packets find no socket of ours: the peer has to send first.
		{"192.0.2.2:80", "alice", false, "peer"},
		{"[2001:db8:2::2]:80", "carol", false, "peer"},
	} {
		t.Run(tt.service+"/"+tt.first, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			host := w.m2
			if tt.behind {
				host = w.guest
			}
			service := listen(t, host, tt.service)
			w.server(t, "-p 80="+tt.service)
			w.client(t, "-p 80")
			s := newSession(t, w.peers(tt.peer)[0], 80, service)
			s.talk(t)
			nstest.Must(t, w.m2.Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }))
			for family, prefix := range map[string]string{"-4": "233.252.0.0/24", "-6": "2001:db8:bad::/48"} {
				nstest.Run(t, w.m2, "ip", family, "route", "add", "blackhole", prefix)
				nstest.Run(t, w.m2, "ip", family, "route", "del", "blackhole", prefix)
			}
			if tt.first == "service" {
				_, err := io.WriteString(s.service, "still here?")
				nstest.Must(t, err)
				wantNext(t, s.peer, "still here?")
			}
			s.talk(t)
		})
	}
}

// TestFirewallRejects has a firewall of M2 reject a peer in each way: the peer is refused at once.
func TestFirewallRejects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	listen(t, w.m2, "127.0.0.1:80")
	listen(t, w.m2, "[::1]:80")
	listen(t, w.m2, "192.0.2.2:80")
	listen(t, w.m2, "[2001:db8:2::2]:80")
	w.server(t, "-p 80 -p 81=192.0.2.2:80 -p 82=[2001:db8:2::2]:80")
	w.client(t, "-p 80 -p 81 -p 82")
	for _, with := range []string{"tcp-reset", "icmp-port-unreachable", "icmp-admin-prohibited"} {
		with6 := map[string]string{"tcp-reset": "tcp-reset", "icmp-port-unreachable": "icmp6-port-unreachable", "icmp-admin-prohibited": "icmp6-adm-prohibited"}[with]
		// As fail2ban's actions iptables-multiport do.
		nstest.Run(t, w.m2, "iptables", "-I", "INPUT", "-p", "tcp", "-m", "multiport", "--dports", "80", "-s", "203.0.113.10", "-j", "REJECT", "--reject-with", with)
		nstest.Run(t, w.m2, "ip6tables", "-I", "INPUT", "-p", "tcp", "-m", "multiport", "--dports", "80", "-s", "2001:db8:ca::30", "-j", "REJECT", "--reject-with", with6)
		t.Run(with, func(t *testing.T) {
			w.wantRefused(t, w.alice, 80)
			w.wantRefused(t, w.carol, 80)
			w.wantRefused(t, w.alice, 81)
			w.wantRefused(t, w.carol, 82)
		})
		nstest.Run(t, w.m2, "nft", "flush", "ruleset")
	}
}

// TestBanInOutput bans a peer as fail2ban's iptables-multiport[chain=OUTPUT] does, which holds for services of every kind.
func TestBanInOutput(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	services := []*net.TCPListener{listen(t, w.m2, "127.0.0.1:80"), listen(t, w.m2, "192.0.2.2:80"), listen(t, w.guest, guest80)}
	w.server(t, "-p 80 -p 81=192.0.2.2:80 -p 82="+guest80)
	w.client(t, "-p 80 -p 81 -p 82")
	nstest.Run(t, w.m2, "sh", "-ec", `
iptables -N f2b-http; iptables -A f2b-http -j RETURN
iptables -I OUTPUT -p tcp -m multiport --dports 80 -j f2b-http
iptables -I f2b-http 1 -s 203.0.113.10 -j REJECT --reject-with icmp-port-unreachable`)
	for i, service := range services {
		port := uint16(80 + i)
		w.wantRefused(t, w.alice, port)
		newSession(t, w.bob, port, service).talk(t)
	}
	nstest.Run(t, w.m2, "nft", "flush", "ruleset")
}

// TestBanByRoute has a route of M2 reject a peer, as fail2ban's action "route" does.
func TestBanByRoute(t *testing.T) {
	t.Parallel()
	c := newChain(t, loopback80)
	c.connect(t).talk(t)
	nstest.Run(t, c.m2, "ip", "route", "add", "unreachable", "203.0.113.10")
	nstest.WaitFor(t, "the server to know of the route", func() bool {
		if early, err := c.alice.Dial(t.Context(), netip.AddrPort{}, c.alice.at(80)); err == nil {
			defer func() { _ = early.Close() }()
		}
		nstest.Must(t, c.service.SetDeadline(time.Now().Add(300*time.Millisecond)))
		served, err := c.service.Accept()
		if err == nil {
			_ = served.Close()
		}
		nstest.Must(t, c.service.SetDeadline(time.Time{}))
		return err != nil
	})
	c.wantRefused(t, c.alice, 80)
	c.server.WaitOutput("is banned by a route of this machine")
	newSession(t, c.bob, 80, c.service).talk(t)
	nstest.Run(t, c.m2, "ip", "route", "del", "unreachable", "203.0.113.10")
}
