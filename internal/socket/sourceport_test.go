package socket_test

import (
	"errors"
	"net"
	"strconv"
	"syscall"
	"testing"

	"portredirector/internal/socket"
	"portredirector/internal/testnet"
)

// localPorts narrows the ports that the kernel of a host chooses from.
func localPorts(t *testing.T, h *testnet.Host, first, last int) {
	t.Helper()
	if err := h.SetSysctl("net.ipv4.ip_local_port_range", strconv.Itoa(first)+" "+strconv.Itoa(last)); err != nil {
		t.Fatal(err)
	}
}

// sharingDialer returns a dialer that was made in a host.
func sharingDialer(t *testing.T, h *testnet.Host) (d *socket.TransparentDialer) {
	t.Helper()
	if err := h.Do(func() error {
		d = socket.NewTransparentDialer()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return d
}

// requireSharing skips a test on kernels that cannot share the port of a peer.
func requireSharing(t *testing.T, h *testnet.Host) {
	t.Helper()
	err := h.Do(func() error {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		defer func() { _ = syscall.Close(fd) }()
		return syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, 51, 0)
	})
	if errors.Is(err, syscall.ENOPROTOOPT) {
		t.Skip("needs Linux 6.3")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// families are a service and a peer without its port, in each family.
var families = []struct{ name, service, other, peer string }{
	{"IPv4", "127.0.0.1:80", "127.0.0.1:81", "203.0.113.7:"},
	{"IPv6", "[::1]:80", "[::1]:81", "[2001:db8::7]:"},
}

// TestPortsStayForOthers: peers that have every port which the kernel chooses from take none from other programs.
func TestPortsStayForOthers(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			h := newHost(t)
			requireSharing(t, h)
			localPorts(t, h, 40000, 40003)
			s, other := service(t, h, f.service), service(t, h, f.other)
			d := sharingDialer(t, h)
			for port := 40000; port <= 40003; port++ {
				c, rung, err := dial(t, h, d, f.peer+strconv.Itoa(port), s.Addr())
				if err != nil || rung != socket.Exact {
					t.Fatalf("port %d: rung %d, %v", port, rung, err)
				}
				talk(t, c)
			}
			for i, p := range s.Peers() {
				if want := f.peer + strconv.Itoa(40000+i); p.String() != want {
					t.Errorf("the service saw %s, want %s", p, want)
				}
			}
			if err := h.Do(func() error {
				c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(other.Addr()))
				if err != nil {
					return err
				}
				return c.Close()
			}); err != nil {
				t.Errorf("another program cannot connect: %v", err)
			}
		})
	}
}

// TestSharingLadder goes down every rung from a port that is shared.
func TestSharingLadder(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			h := newHost(t)
			localPorts(t, h, 40000, 40001)
			s := service(t, h, f.service)
			d := sharingDialer(t, h)
			for i, want := range []socket.Rung{socket.Exact, socket.AnyPort} {
				c, rung, err := dial(t, h, d, f.peer+"40000", s.Addr())
				if err != nil || rung != want {
					t.Fatalf("dial %d: rung %d, %v, want rung %d", i, rung, err, want)
				}
				talk(t, c)
			}
			if got := s.Peers(); got[0].Port() != 40000 || got[1].Port() != 40001 {
				t.Errorf("the service saw %v", got)
			}
			if _, _, err := dial(t, h, d, f.peer+"40000", s.Addr()); !errors.Is(err, socket.ErrCollision) {
				t.Errorf("with every port taken: %v, want %v", err, socket.ErrCollision)
			}
			if _, rung, err := dial(t, h, d, f.peer+"40000", service(t, h, f.other).Addr()); err != nil || rung != socket.Exact {
				t.Errorf("at another service: rung %d, %v", rung, err)
			}
			if got, want := d.Counts(), (socket.DialCounts{Exact: 2, AnyPort: 1, Refused: 1}); got != want {
				t.Errorf("counts are %+v, want %+v", got, want)
			}
		})
	}
}

// TestPortThatIsBound: a port that a program of this machine is bound to, at another address, is still that of the peer.
func TestPortThatIsBound(t *testing.T) {
	h := newHost(t)
	localPorts(t, h, 40000, 40003)
	service(t, h, "127.0.0.9:40000")
	s := service(t, h, "127.0.0.1:80")
	if _, rung, err := dial(t, h, sharingDialer(t, h), "203.0.113.7:40000", s.Addr()); err != nil || rung != socket.Exact {
		t.Errorf("rung %d, %v", rung, err)
	}
}

// TestPortsOutsideTheRange: the kernel ignores the wish for such a port, so it is bound.
func TestPortsOutsideTheRange(t *testing.T) {
	h := newHost(t)
	localPorts(t, h, 40000, 40003)
	s := service(t, h, "127.0.0.1:80")
	d := sharingDialer(t, h)
	for _, port := range []string{"1", "22", "39999", "40004", "65535"} {
		if _, rung, err := dial(t, h, d, "203.0.113.7:"+port, s.Addr()); err != nil || rung != socket.Exact {
			t.Errorf("port %s: rung %d, %v", port, rung, err)
		}
	}
}

// TestRangeThatChanges: one peer gets another port of its address, all later ones their own.
func TestRangeThatChanges(t *testing.T) {
	h := newHost(t)
	requireSharing(t, h)
	s := service(t, h, "127.0.0.1:80")
	d := sharingDialer(t, h)
	localPorts(t, h, 50000, 50003)
	for i, want := range []socket.Rung{socket.AnyPort, socket.Exact, socket.Exact} {
		if _, rung, err := dial(t, h, d, "203.0.113.7:"+strconv.Itoa(40000+i), s.Addr()); err != nil || rung != want {
			t.Errorf("dial %d: rung %d, %v, want rung %d", i, rung, err, want)
		}
	}
}
