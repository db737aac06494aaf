package e2e_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// sharedPort is the source port of several simultaneous connections of a peer, each to another destination.
const sharedPort = 40000

// TestTwoClients has one ip:port of a peer come through two clients to one service.
func TestTwoClients(t *testing.T) {
	t.Parallel()
	var m1b *testnet.Host
	w := newWorld(t, func(w *world) {
		m1b = nstest.NewHost(t, "m1b")
		connect(t, w.alice.Host, "203.0.113.129/25", m1b, "203.0.113.130/25")
		route(t, m1b, "203.0.113.10/32", "203.0.113.129")
		connect(t, m1b, "10.0.1.1/24", w.m2, "10.0.1.2/24")
	})
	service := listen(t, w.m2, "127.0.0.1:80")
	server := w.server(t, "-p 80")
	w.client(t, "-p 80")
	start(t, m1b, "client", "-c 10.0.1.2:"+linkPort+" -p 80")

	first := sharedSession(t, w.alice, w.alice.at(80), service)
	second := sharedSession(t, w.alice, netip.MustParseAddrPort("203.0.113.130:80"), service)
	wantLadder(t, server, w.alice, first, second)
}

// TestTwoPorts has one ip:port of a peer come to two ports that lead to one service.
func TestTwoPorts(t *testing.T) {
	for _, tt := range []struct{ name, peer, server, listen string }{
		{"loopback, IPv4", "alice", "-p 80=127.0.0.1:80 -p 81=127.0.0.1:80", "127.0.0.1:80"},
		{"loopback, IPv6", "carol", "-p 80=[::1]:80 -p 81=[::1]:80", "[::1]:80"},
		{"own address", "alice", "-p 80=192.0.2.2:80 -p 81=192.0.2.2:80", "192.0.2.2:80"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			service := listen(t, w.m2, tt.listen)
			server := w.server(t, tt.server)
			w.client(t, "-p 80-81")
			p := w.peers(tt.peer)[0]
			wantLadder(t, server, p, sharedSession(t, p, p.at(80), service), sharedSession(t, p, p.at(81), service))
		})
	}
}

// TestLastRung connects one ip:port of a peer to four ports that lead to one service, when the kernel has two other ports to
// choose from. The fourth connection is refused.
func TestLastRung(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		nstest.Must(t, w.m2.SetSysctl("net.ipv4.ip_local_port_range", "50000 50001"))
	})
	service := listen(t, w.m2, "127.0.0.1:80")
	server := w.server(t, "-p 80 -p 81=127.0.0.1:80 -p 82=127.0.0.1:80 -p 83=127.0.0.1:80")
	client := w.client(t, "-p 80-83")
	from := netip.AddrPortFrom(w.alice.addr, sharedPort)
	seen := make(map[netip.AddrPort]bool)
	for port := uint16(80); port <= 82; port++ {
		s := sharedSession(t, w.alice, w.alice.at(port), service)
		s.talk(t)
		seen[remoteAddr(s.service)] = true
	}
	for _, port := range []uint16{sharedPort, 50000, 50001} {
		if want := netip.AddrPortFrom(w.alice.addr, port); !seen[want] {
			t.Errorf("the service saw %v, want %v among them", seen, want)
		}
	}
	wantRefused(t, w.alice, from, w.alice.at(83))
	server.wantRefusal(t, from, "every source port of the claim is taken at the service")
	client.wantRefusal(t, from, "server "+linkTo+": internal error")
}

// sharedSession lets a peer connect from its sharedPort, whatever else it uses that for.
func sharedSession(t *testing.T, p peer, to netip.AddrPort, service *net.TCPListener) session {
	t.Helper()
	c, err := dialFrom(p, netip.AddrPortFrom(p.addr, sharedPort), to)
	nstest.Must(t, err)
	return session{peer: forTest(t, c), service: accept(t, service)}
}

// wantLadder fails the test unless both connections of the peer are served, the second one by the same ip and another port, and
// the server's log says so.
func wantLadder(t *testing.T, server *daemon, p peer, first, second session) {
	t.Helper()
	first.talk(t)
	second.talk(t)
	if is, seen := localAddr(first.peer), remoteAddr(first.service); seen != is {
		t.Errorf("the service saw %v first, want %v", seen, is)
	}
	seen := remoteAddr(second.service)
	if seen.Addr() != p.addr || seen.Port() == sharedPort {
		t.Errorf("the service saw %v second, want %v with another port", seen, p.addr)
	}
	line := server.WaitOutput("ip:port is taken")
	for _, want := range []string{
		fmt.Sprintf("peer=%v ", netip.AddrPortFrom(p.addr, sharedPort)),
		fmt.Sprintf("source=%v ", seen),
		fmt.Sprintf("address=%v", localAddr(second.service)),
	} {
		if !strings.Contains(line, want) {
			t.Errorf("logged %s; want it to say %s", line, want)
		}
	}
}
