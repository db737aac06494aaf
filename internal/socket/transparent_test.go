package socket_test

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"portredirector/internal/socket"
	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// mark is the mark that newHost routes back by hand, so that this package is
// tested without the one that does it for the product.
const mark = 0x1

func newHost(t *testing.T) *testnet.Host {
	t.Helper()
	h := nstest.NewHost(t, "m2")
	for _, name := range []string{"net.ipv4.tcp_fwmark_accept", "net.ipv4.fwmark_reflect", "net.ipv6.fwmark_reflect"} {
		if err := h.SetSysctl(name, "1"); err != nil {
			t.Fatal(err)
		}
	}
	for _, family := range []string{"-4", "-6"} {
		nstest.Run(t, h, "ip", family, "rule", "add", "fwmark", "0x1", "lookup", "100")
		nstest.Run(t, h, "ip", family, "route", "add", "local", "default", "dev", "lo", "table", "100")
	}
	return h
}

// dial dials in the host and gives the connection to the test to close.
func dial(t *testing.T, h *testnet.Host, d *socket.TransparentDialer, claim string, service netip.AddrPort) (*net.TCPConn, socket.Rung, error) {
	t.Helper()
	var conn *net.TCPConn
	var rung socket.Rung
	err := h.Do(func() (err error) {
		conn, rung, err = d.Dial(t.Context(), netip.MustParseAddrPort(claim), service, mark)
		return err
	})
	if err == nil {
		t.Cleanup(func() {
			_ = conn.SetLinger(0)
			_ = conn.Close()
		})
	}
	return conn, rung, err
}

// talk makes sure that the service has accepted the connection.
func talk(t *testing.T, c *net.TCPConn) {
	t.Helper()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

func service(t *testing.T, h *testnet.Host, addr string) *nstest.EchoService {
	t.Helper()
	return nstest.Echo(t, h, netip.MustParseAddrPort(addr))
}

func TestServiceSeesTheClaim(t *testing.T) {
	h := newHost(t)
	tests := []struct{ service, claim string }{
		{"127.0.0.1:80", "203.0.113.7:4444"},
		{"[::1]:80", "[2001:db8::7]:4444"},
		{"127.0.0.1:81", "10.0.0.1:22"},
		{"127.0.0.1:82", "169.254.9.9:4444"},
	}
	for _, tt := range tests {
		s := service(t, h, tt.service)
		var d socket.TransparentDialer
		c, rung, err := dial(t, h, &d, tt.claim, s.Addr())
		if err != nil || rung != socket.Exact {
			t.Fatalf("%s: rung %d, %v", tt.claim, rung, err)
		}
		talk(t, c)
		if got := s.Peers(); len(got) != 1 || got[0].String() != tt.claim {
			t.Errorf("the service at %s saw %v, want %s", tt.service, got, tt.claim)
		}
		if got := d.Counts(); got != (socket.DialCounts{Exact: 1}) {
			t.Errorf("counts are %+v", got)
		}
	}
}

// TestLinkLocalClaim: a link-local peer is seen with the zone of loopback, where its replies go.
func TestLinkLocalClaim(t *testing.T) {
	h := newHost(t)
	s := service(t, h, "[::1]:80")
	localPorts(t, h, 40000, 40003)
	for _, port := range []string{"4444", "40000"} {
		c, rung, err := dial(t, h, sharingDialer(t, h), "[fe80::7]:"+port, s.Addr())
		if err != nil || rung != socket.Exact {
			t.Fatalf("port %s: rung %d, %v", port, rung, err)
		}
		talk(t, c)
	}
	for i, want := range []string{"[fe80::7%lo]:4444", "[fe80::7%lo]:40000"} {
		if got := s.Peers()[i].String(); got != want {
			t.Errorf("the service saw %s, want %s", got, want)
		}
	}
}

// TestOnePeerAtManyServices: a peer's ip:port may be taken at each service
// once.
func TestOnePeerAtManyServices(t *testing.T) {
	h := newHost(t)
	var d socket.TransparentDialer
	for _, addr := range []string{"127.0.0.1:80", "127.0.0.1:81", "127.0.0.2:80"} {
		if _, rung, err := dial(t, h, &d, "203.0.113.7:4444", service(t, h, addr).Addr()); err != nil || rung != socket.Exact {
			t.Errorf("%s: rung %d, %v", addr, rung, err)
		}
	}
}

// TestLadder goes down every rung.
func TestLadder(t *testing.T) {
	for _, v := range []struct{ name, service, claim string }{
		{"IPv4", "127.0.0.1:80", "203.0.113.7:4444"},
		{"IPv6", "[::1]:80", "[2001:db8::7]:4444"},
	} {
		t.Run(v.name, func(t *testing.T) {
			h := newHost(t)
			// Room for two, besides the exact one.
			if err := h.SetSysctl("net.ipv4.ip_local_port_range", "40000 40001"); err != nil {
				t.Fatal(err)
			}
			s := service(t, h, v.service)
			claim := netip.MustParseAddrPort(v.claim)
			var d socket.TransparentDialer
			for i, want := range []socket.Rung{socket.Exact, socket.AnyPort, socket.AnyPort} {
				c, rung, err := dial(t, h, &d, v.claim, s.Addr())
				if err != nil || rung != want {
					t.Fatalf("dial %d: rung %d, %v, want rung %d", i, rung, err, want)
				}
				talk(t, c)
				seen := s.Peers()[i]
				if seen.Addr() != claim.Addr() {
					t.Errorf("dial %d: the service saw %s, want the ip of %s", i, seen, claim)
				}
				if exact := seen == claim; exact != (want == socket.Exact) {
					t.Errorf("dial %d: the service saw %s", i, seen)
				}
			}
			if _, _, err := dial(t, h, &d, v.claim, s.Addr()); !errors.Is(err, socket.ErrCollision) {
				t.Errorf("with every port taken: %v, want %v", err, socket.ErrCollision)
			}
			if got, want := d.Counts(), (socket.DialCounts{Exact: 1, AnyPort: 2, Refused: 1}); got != want {
				t.Errorf("counts are %+v, want %+v", got, want)
			}
		})
	}
}

// TestClaimOfAnOwnListener: the claim's ip:port is listened on here.
func TestClaimOfAnOwnListener(t *testing.T) {
	h := newHost(t)
	nstest.Run(t, h, "ip", "addr", "add", "10.9.9.9/32", "dev", "lo")
	taken := service(t, h, "10.9.9.9:4444")
	s := service(t, h, "127.0.0.1:80")
	var d socket.TransparentDialer
	c, rung, err := dial(t, h, &d, taken.Addr().String(), s.Addr())
	if err != nil || rung != socket.AnyPort {
		t.Fatalf("rung %d, %v", rung, err)
	}
	talk(t, c)
}

// TestBroadcastClaim: the kernel would dial from an own address.
func TestBroadcastClaim(t *testing.T) {
	h := newHost(t)
	nstest.Run(t, h, "ip", "addr", "add", "10.9.9.1/24", "brd", "+", "dev", "lo")
	s := service(t, h, "127.0.0.1:80")
	for _, claim := range []string{"255.255.255.255:4444", "10.9.9.255:4444", "127.255.255.255:4444", "224.0.0.1:4444"} {
		var d socket.TransparentDialer
		if _, _, err := dial(t, h, &d, claim, s.Addr()); !errors.Is(err, socket.ErrClaim) {
			t.Errorf("%s: %v, want %v", claim, err, socket.ErrClaim)
		}
	}
}

// TestClaimOfTheService: a socket that connects to itself is no peer's, and does
// not keep the port.
func TestClaimOfTheService(t *testing.T) {
	h := newHost(t)
	var d socket.TransparentDialer
	to := netip.MustParseAddrPort("127.0.0.1:8080")
	if _, _, err := dial(t, h, &d, to.String(), to); !errors.Is(err, socket.ErrClaim) {
		t.Errorf("got %v, want %v", err, socket.ErrClaim)
	}
	service(t, h, to.String())
}

// TestRefusalIsNoCollision: only a taken source goes down the ladder.
func TestRefusalIsNoCollision(t *testing.T) {
	h := newHost(t)
	var d socket.TransparentDialer
	_, _, err := dial(t, h, &d, "203.0.113.7:4444", netip.MustParseAddrPort("127.0.0.1:9"))
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v, want %v", err, syscall.ECONNREFUSED)
	}
	if got := d.Counts(); got != (socket.DialCounts{Exact: 1}) {
		t.Errorf("counts are %+v", got)
	}
}
