package route_test

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"portredirector/internal/route"
	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// udpService answers each datagram by its own bytes, unless it is silent, and
// remembers who spoke to it.
type udpService struct {
	conn   *net.UDPConn
	silent bool

	mu    sync.Mutex
	peers []netip.AddrPort // guarded by mu
}

// serveUDP starts a service, which ends with the test.
func serveUDP(t *testing.T, h *testnet.Host, network, at string, silent bool) *udpService {
	t.Helper()
	s := &udpService{silent: silent}
	nstest.Must(t, h.Do(func() (err error) {
		s.conn, err = net.ListenUDP(network, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
		return err
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.serve()
	}()
	t.Cleanup(func() {
		_ = s.conn.Close()
		<-done
	})
	return s
}

func (s *udpService) serve() {
	buffer := make([]byte, 2000)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.peers = append(s.peers, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
		s.mu.Unlock()
		if !s.silent {
			s.say(from, string(buffer[:n]))
		}
	}
}

func (s *udpService) say(to netip.AddrPort, what string) {
	_, _ = s.conn.WriteToUDPAddrPort([]byte(what), to) // a test will miss it
}

// asked returns the claims of proofs that the service has seen.
func (s *udpService) asked() (claims []netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.peers {
		if p.Addr() == netip.MustParseAddr("198.51.100.77") || p.Addr() == netip.MustParseAddr("2001:db8::77") {
			claims = append(claims, p)
		}
	}
	return claims
}

// needFlow makes the child have the return route of a UDP service, and returns where
// a flow dials and its mark. The proof must have had the given outcome.
func (o *owner) needFlow(t *testing.T, service string, want route.Outcome) (to netip.AddrPort, mark int) {
	t.Helper()
	o.need(t, service+"/udp")
	lines := strings.Split(o.Output(), "have "+service+"/udp mark ")
	var at string
	var got route.Outcome
	if _, err := fmt.Sscanf(lines[len(lines)-1], "%v at %s %d\n", &mark, &at, &got); err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("%s: %s, want %s", service, got, want)
	}
	return netip.MustParseAddrPort(at), mark
}

// flow is a connected transparent socket.
type flow struct {
	fd   int
	from netip.AddrPort
}

// openFlow opens a flow with a claim of the given port.
func openFlow(t *testing.T, h *testnet.Host, to netip.AddrPort, mark int, port uint16) flow {
	t.Helper()
	f := flow{from: netip.AddrPortFrom(claimOf(to.Addr()), port)}
	family, level, transparent := unix.AF_INET, unix.IPPROTO_IP, unix.IP_TRANSPARENT
	sockaddr := func(a netip.AddrPort) unix.Sockaddr {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	if to.Addr().Is6() {
		family, level, transparent = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT
		sockaddr = func(a netip.AddrPort) unix.Sockaddr {
			return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
		}
	}
	nstest.Must(t, h.Do(func() (err error) {
		if f.fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		for _, o := range [][3]int{{level, transparent, 1}, {unix.SOL_SOCKET, unix.SO_MARK, mark}, {unix.SOL_SOCKET, unix.SO_REUSEADDR, 1}} {
			if err := unix.SetsockoptInt(f.fd, o[0], o[1], o[2]); err != nil {
				return os.NewSyscallError("setsockopt", err)
			}
		}
		if err := unix.Bind(f.fd, sockaddr(f.from)); err != nil {
			return os.NewSyscallError("bind", err)
		}
		return os.NewSyscallError("connect", unix.Connect(f.fd, sockaddr(to)))
	}))
	t.Cleanup(func() { _ = unix.Close(f.fd) })
	return f
}

// say sends a datagram.
func (f flow) say(t *testing.T, what string) {
	t.Helper()
	if err := unix.Send(f.fd, []byte(what), 0); err != nil {
		t.Fatal(err)
	}
}

// hear waits for a datagram.
func (f flow) hear(t *testing.T, want string) {
	t.Helper()
	nstest.Must(t, unix.SetsockoptTimeval(f.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}))
	buffer := make([]byte, 2000)
	n, err := unix.Read(f.fd, buffer)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	if got := string(buffer[:n]); got != want {
		t.Errorf("heard %q, want %q", got, want)
	}
}

// udpPlaces are the places where a UDP service may be.
var udpPlaces = map[string]struct {
	service string // as configured
	network string // of the socket
	bound   string
	behind  bool   // on the neighbor
	dialed  string // if that is another address
}{
	"loopback IPv4":              {service: "127.0.0.1:1001", network: "udp4", bound: "127.0.0.1:1001"},
	"loopback IPv6":              {service: "[::1]:1002", network: "udp6", bound: "[::1]:1002"},
	"the last port":              {service: "[::1]:65535", network: "udp6", bound: "[::1]:65535"},
	"own IPv4":                   {service: "10.1.0.2:1003", network: "udp4", bound: "10.1.0.2:1003"},
	"own IPv6":                   {service: "[fd01::2]:1004", network: "udp6", bound: "[fd01::2]:1004"},
	"0.0.0.0":                    {service: "127.0.0.1:1005", network: "udp4", bound: "0.0.0.0:1005", dialed: "10.1.0.2:1005"},
	"[::] for IPv6":              {service: "[::1]:1006", network: "udp6", bound: "[::]:1006", dialed: "[fd01::2]:1006"},
	"[::] for IPv4":              {service: "127.0.0.1:1007", network: "udp", bound: "[::]:1007", dialed: "10.1.0.2:1007"},
	"0.0.0.0 at another address": {service: "10.2.0.2:1008", network: "udp4", bound: "0.0.0.0:1008", dialed: "10.1.0.2:1008"},
	"behind IPv4":                {service: "10.1.0.1:1009", network: "udp4", bound: "10.1.0.1:1009", behind: true},
	"behind IPv6":                {service: "[fd01::1]:1010", network: "udp6", bound: "[fd01::1]:1010", behind: true},
	"published":                  {service: "10.1.0.2:1011", network: "udp4", bound: "10.1.0.1:2011", behind: true},
	"published beside a proxy":   {service: "10.1.0.2:1012", network: "udp4", bound: "10.1.0.1:2012", behind: true},
}

// publish leads ports of all own addresses to the neighbor, as Docker does with containers.
const publish = `nft 'add table ip docker; add chain ip docker out { type nat hook output priority -100; };
	add rule ip docker out fib daddr type local udp dport 1011 dnat to 10.1.0.1:2011;
	add rule ip docker out fib daddr type local udp dport 1012 dnat to 10.1.0.1:2012'`

// newUDPHosts returns hosts with an address more, where the neighbor's replies go by way of
// the other.
func newUDPHosts(t *testing.T) (m2, isp *testnet.Host) {
	t.Helper()
	m2, isp = newM2WithNeighbor(t)
	nstest.Run(t, isp, "sh", "-ec", "ip route add default via 10.1.0.2; ip -6 route add default via fd01::2")
	nstest.Run(t, m2, "sh", "-ec", "ip addr add 10.2.0.2/24 dev isp; "+publish)
	return m2, isp
}

// TestFlows sends a datagram to a service in each place, and gets the answer. The proofs
// reach no service on this machine.
func TestFlows(t *testing.T) {
	t.Parallel()
	m2, isp := newUDPHosts(t)
	serveUDP(t, m2, "udp4", "0.0.0.0:1012", false) // the proxy
	nstest.Unchanged(t, m2)
	o := startOwner(t, m2, defaults)
	t.Run("places", func(t *testing.T) {
		for name, tt := range udpPlaces {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				host := m2
				if tt.behind {
					host = isp
				}
				s := serveUDP(t, host, tt.network, tt.bound, false)
				to, mark := o.needFlow(t, tt.service, route.Holds)
				if want := cmp.Or(tt.dialed, tt.service); to.String() != want {
					t.Errorf("dialed at %s, want %s", to, want)
				}
				f := openFlow(t, m2, to, mark, 7000)
				f.say(t, name)
				f.hear(t, name)
				if asked := s.asked(); !tt.behind && len(asked) > 0 {
					t.Errorf("the service saw proofs: %s", asked)
				}
			})
		}
	})
	o.end(t)
}

// TestServiceBoundAnew starts a service anew that is bound otherwise. Flows then dial another address.
func TestServiceBoundAnew(t *testing.T) {
	t.Parallel()
	m2, _ := newUDPHosts(t)
	nstest.Unchanged(t, m2)
	o := startOwner(t, m2, defaults)
	s := serveUDP(t, m2, "udp4", "127.0.0.1:53", false)
	if to, _ := o.needFlow(t, "127.0.0.1:53", route.Holds); !to.Addr().IsLoopback() {
		t.Errorf("dialed at %s", to)
	}
	nstest.Must(t, s.conn.Close())
	serveUDP(t, m2, "udp4", "0.0.0.0:53", false)
	var to netip.AddrPort
	var mark int
	nstest.WaitFor(t, "another address", func() bool {
		to, mark = o.needFlow(t, "127.0.0.1:53", route.Holds)
		return to.String() == "10.1.0.2:53"
	})
	f := openFlow(t, m2, to, mark, 7000)
	f.say(t, "a")
	f.hear(t, "a")
	nstest.Run(t, m2, "ip", "route", "replace", "default", "via", "10.1.0.1", "src", "10.2.0.2")
	nstest.WaitFor(t, "the address of the new route", func() bool {
		to, _ = o.needFlow(t, "127.0.0.1:53", route.Holds)
		return to.String() == "10.2.0.2:53"
	})
	nstest.Run(t, m2, "sh", "-ec", "ip route del default; ip route add default via 10.1.0.1")
	o.end(t)
}

// TestSilence has services speak after a silence that is longer than the kernel remembers
// other UDP.
func TestSilence(t *testing.T) {
	t.Parallel()
	m2, isp := newUDPHosts(t)
	nstest.Unchanged(t, m2)
	o := startOwner(t, m2, defaults)
	nstest.Run(t, m2, "sysctl", "-q", "-w", "net.netfilter.nf_conntrack_udp_timeout=1", "net.netfilter.nf_conntrack_udp_timeout_stream=1")
	type talk struct {
		*udpService
		flow
	}
	talks := make(map[string]talk)
	for _, name := range []string{"own IPv4", "own IPv6", "behind IPv4", "behind IPv6", "published", "0.0.0.0"} {
		place := udpPlaces[name]
		host := m2
		if place.behind {
			host = isp
		}
		s := serveUDP(t, host, place.network, place.bound, true)
		outcome := route.Holds
		if place.behind {
			outcome = route.LookedUp
		}
		to, mark := o.needFlow(t, place.service, outcome)
		talks[name] = talk{s, openFlow(t, m2, to, mark, 7000)}
		talks[name].flow.say(t, "hello") // and no answer: the kernel has seen one way only
	}
	serveUDP(t, isp, "udp4", "10.1.0.1:99", true)
	other := openFlow(t, m2, netip.MustParseAddrPort("10.1.0.1:99"), 0, 7001)
	other.say(t, "hello")
	entry := func() bool {
		return strings.Contains(readConntrack(t, m2), "sport=7001 ")
	}
	if !entry() {
		t.Fatal("no entry of another datagram: this test proves nothing")
	}
	nstest.WaitFor(t, "the kernel to forget another datagram", func() bool { return !entry() })
	for name, talk := range talks {
		nstest.WaitFor(t, "hello at "+name, func() bool {
			talk.mu.Lock()
			defer talk.mu.Unlock()
			return len(talk.peers) > 0
		})
		talk.udpService.say(talk.from, name)
		talk.hear(t, name)
	}
	// After "conntrack -F" a service behind this machine still finds the socket.
	nstest.Must(t, m2.Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }))
	for _, name := range []string{"behind IPv4", "behind IPv6"} {
		talks[name].udpService.say(talks[name].from, name)
		talks[name].hear(t, name)
	}
	o.end(t)
}

// readConntrack returns the host's entries of connection tracking.
func readConntrack(t *testing.T, h *testnet.Host) (text string) {
	t.Helper()
	var flows []*netlink.ConntrackFlow
	nstest.Must(t, h.Do(func() (err error) {
		flows, err = netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
		return err
	}))
	for _, f := range flows {
		text += f.String() + "\n"
	}
	return text
}

// TestRefusedDatagram: a service that is not there ends the flow by an ICMP error.
func TestRefusedDatagram(t *testing.T) {
	t.Parallel()
	m2, _ := newUDPHosts(t)
	nstest.Unchanged(t, m2)
	o := startOwner(t, m2, defaults)
	for _, service := range []string{"127.0.0.1:9", "[::1]:9", "10.1.0.2:9", "[fd01::2]:9", "10.1.0.1:9", "[fd01::1]:9"} {
		to, mark := o.needFlow(t, service, route.NoService)
		f := openFlow(t, m2, to, mark, 7000)
		nstest.WaitFor(t, "an ICMP error of "+service, func() bool { // the kernel limits how many it sends
			_ = unix.Send(f.fd, []byte("hello"), 0)
			time.Sleep(time.Millisecond)
			errno, err := unix.GetsockoptInt(f.fd, unix.SOL_SOCKET, unix.SO_ERROR)
			return err == nil && syscall.Errno(errno) == syscall.ECONNREFUSED
		})
	}
	o.end(t)
}
