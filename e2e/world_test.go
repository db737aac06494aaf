package e2e_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// world is a small Internet:
//
//	alice 203.0.113.10    ─┐                                         ┌─ isp2, where m2's default routes go
//	bob   198.51.100.20   ─┼─ m1 10.0.0.1  ══ link ══  10.0.0.2 m2 ──┤
//	carol 2001:db8:ca::30 ─┘                                         └─ bridge ── guest 172.30.0.2
type world struct {
	m1, m2, isp2, guest *testnet.Host
	alice, bob, carol   peer

	visits   int    // how many pages were asked for
	refusals uint16 // how many peers were refused
}

// Addresses in the world.
const (
	linkTo   = "10.0.0.2:12345" // m2 as m1 reaches it
	linkTo6  = "[fd00:10::2]:12345"
	bridge   = "br0"
	linkPort = "12345"
)

// peer is a host that connects to M1.
type peer struct {
	*testnet.Host

	addr netip.Addr // its own
	m1   netip.Addr // where M1 is for it
}

// newWorld builds a world. What prepare does to it belongs to the state in which the test has to leave M1 and M2.
func newWorld(t *testing.T, prepare ...func(w *world)) *world {
	t.Helper()
	if testing.Short() {
		t.Skip("needs other programs")
	}
	w := &world{
		m1:    nstest.NewHost(t, "m1"),
		m2:    nstest.NewHost(t, "m2"),
		isp2:  nstest.NewHost(t, "isp2"),
		guest: nstest.NewHost(t, "guest"),
	}
	connect(t, w.m1, "10.0.0.1/24 fd00:10::1/64", w.m2, "10.0.0.2/24 fd00:10::2/64")
	connect(t, w.m2, "192.0.2.2/24 2001:db8:2::2/64", w.isp2, "192.0.2.1/24 2001:db8:2::1/64")
	route(t, w.m2, "0.0.0.0/0", "192.0.2.1")
	route(t, w.m2, "::/0", "2001:db8:2::1")
	w.addGuest(t)
	w.alice = w.newPeer(t, "alice", "203.0.113.10/24", "203.0.113.1/24")
	w.bob = w.newPeer(t, "bob", "198.51.100.20/24", "198.51.100.1/24")
	w.carol = w.newPeer(t, "carol", "2001:db8:ca::30/64", "2001:db8:ca::1/64")
	for _, p := range prepare {
		p(w)
	}
	nstest.Unchanged(t, w.m1)
	nstest.Unchanged(t, w.m2)
	return w
}

// newPeer joins a peer to M1.
func (w *world) newPeer(t *testing.T, name, addr, m1 string) peer {
	t.Helper()
	h := nstest.NewHost(t, name)
	connect(t, h, addr, w.m1, m1)
	return peer{Host: h, addr: netip.MustParsePrefix(addr).Addr(), m1: netip.MustParsePrefix(m1).Addr()}
}

// addGuest puts the guest behind a bridge of M2, which forwards for it.
func (w *world) addGuest(t *testing.T) {
	t.Helper()
	nstest.Must(t, w.m2.SetSysctl("net.ipv4.ip_forward", "1"))
	nstest.Must(t, w.m2.SetSysctl("net.ipv6.conf.all.forwarding", "1"))
	nstest.Must(t, w.m2.Bridge(bridge, prefixes("172.30.0.1/24 fd00:30::1/64")...))
	nstest.Must(t, w.m2.Attach(bridge, w.guest, prefixes("172.30.0.2/24 fd00:30::2/64")...))
	route(t, w.guest, "0.0.0.0/0", "172.30.0.1")
	route(t, w.guest, "::/0", "fd00:30::1")
}

// peers returns the peers with these names.
func (w *world) peers(names string) (list []peer) {
	for name := range strings.FieldsSeq(names) {
		list = append(list, map[string]peer{"alice": w.alice, "bob": w.bob, "carol": w.carol}[name])
	}
	return list
}

// at returns the address at which the peer reaches a port of M1.
func (p peer) at(port uint16) netip.AddrPort { return netip.AddrPortFrom(p.m1, port) }

// loopback returns the loopback address of M2 in the peer's family.
func (p peer) loopback(port uint16) netip.AddrPort {
	if p.addr.Is4() {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
	}
	return netip.AddrPortFrom(netip.IPv6Loopback(), port)
}

// connectionTo returns the local address of the peer's only connection to a port of M1.
func connectionTo(t *testing.T, p peer, port uint16) netip.AddrPort {
	t.Helper()
	out := nstest.Run(t, p.Host, "ss", "-Htn", "state", "established", fmt.Sprint("dport = :", port))
	fields := strings.Fields(out) // Recv-Q Send-Q Local Peer
	if len(fields) != 4 {
		t.Fatalf("%s has not one connection to port %d: %q", p.Name, port, out)
	}
	return addrPort(t, fields[2])
}

// daemon is a client or a server under test.
type daemon struct {
	*nstest.Process

	ended bool
}

// server starts a server on M2 with the options given, separated by spaces.
func (w *world) server(t *testing.T, options string) *daemon {
	t.Helper()
	return start(t, w.m2, "server", "-l "+linkPort+" "+options)
}

// client starts a client on M1, which takes its peers to the server.
func (w *world) client(t *testing.T, options string) *daemon {
	t.Helper()
	return start(t, w.m1, "client", "-c "+linkTo+" "+options)
}

// start starts the program and waits until it is ready. At the end of the test the program is asked to end, unless it has, and
// must succeed, which it does not if the race detector found anything.
func start(t *testing.T, h *testnet.Host, command, options string) *daemon {
	t.Helper()
	return startIn(t, h, "", command, options)
}

// startIn starts a daemon with a state directory.
func startIn(t *testing.T, h *testnet.Host, state, command, options string) *daemon {
	t.Helper()
	return startEnv(t, h, []string{"STATE_DIRECTORY=" + state}, command, options)
}

// startEnv starts a daemon with more variables in its environment.
func startEnv(t *testing.T, h *testnet.Host, env []string, command, options string) *daemon {
	t.Helper()
	path, err := program()
	nstest.Must(t, err)
	cmd := exec.Command(path, append([]string{command, "-v"}, strings.Fields(options)...)...)
	cmd.Env = append(append(os.Environ(), "GORACE=atexit_sleep_ms=0"), env...)
	d := &daemon{Process: nstest.StartCmd(t, h, cmd)}
	t.Cleanup(func() {
		if !d.ended {
			d.Signal(syscall.SIGTERM)
			d.wantEnd(t)
		}
	})
	d.WaitOutput(command + " is ready")
	return d
}

// wantEnd waits for the end of the program.
func (d *daemon) wantEnd(t *testing.T) {
	t.Helper()
	d.ended = true
	if code := d.Wait(); code != 0 {
		t.Errorf("exit status %d, want 0", code)
	}
}

// connect joins two hosts; addresses are separated by spaces.
func connect(t *testing.T, a *testnet.Host, aAddrs string, b *testnet.Host, bAddrs string) {
	t.Helper()
	nstest.Must(t, testnet.Connect(a, prefixes(aAddrs), b, prefixes(bAddrs)))
}

func route(t *testing.T, h *testnet.Host, dst, via string) {
	t.Helper()
	nstest.Must(t, h.AddRoute(netip.MustParsePrefix(dst), netip.MustParseAddr(via)))
}

func prefixes(addrs string) (list []netip.Prefix) {
	for a := range strings.FieldsSeq(addrs) {
		list = append(list, netip.MustParsePrefix(a))
	}
	return list
}

// waitListening waits until something listens at each of the addresses, which are separated by spaces.
func waitListening(t *testing.T, h *testnet.Host, addrs string) {
	t.Helper()
	for a := range strings.FieldsSeq(addrs) {
		nstest.WaitListening(t, h, netip.MustParseAddrPort(a))
	}
}
