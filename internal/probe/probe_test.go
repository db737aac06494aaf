package probe_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/probe"
	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// The claimed sources of the probes.
var (
	from4 = netip.MustParseAddrPort("198.51.100.77:7777")
	from6 = netip.MustParseAddrPort("[2001:db8::77]:7777")
)

// newHost returns a host where replies to any address from ports 80 and 81 of
// loopback come back.
func newHost(t *testing.T) *testnet.Host {
	t.Helper()
	h := nstest.NewHost(t, "m2")
	nstest.Run(t, h, "sh", "-ec", `
		for f in -4 -6; do ip $f route add local default dev lo table 100; done
		ip link add name d0 type veth peer name d1; ip link set d0 up; ip link set d1 up
		ip addr add 10.9.0.1/24 dev d0
		for f in -4 -6; do ip $f route add default dev d0; done
		ip rule add from 127.0.0.1 iif lo ipproto tcp sport 80-81 lookup 100
		ip -6 rule add from ::1 iif lo ipproto tcp sport 80-81 lookup 100`)
	return h
}

// send sends a probe from the host.
func send(t *testing.T, h *testnet.Host, to string) probe.Result {
	t.Helper()
	path := probe.Path{From: from4, To: netip.MustParseAddrPort(to)}
	if path.To.Addr().Is6() {
		path.From = from6
	}
	var r probe.Result
	err := h.Do(func() (err error) {
		r, err = probe.Send(t.Context(), path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestServiceDoesNotNotice probes services that are there and looks whether one
// accepts a connection. Their kernel forgets its half of the probe, too.
func TestServiceDoesNotNotice(t *testing.T) {
	h := newHost(t)
	for _, at := range []string{"127.0.0.1:80", "[::1]:80"} {
		l := listen(t, h, at)
		for range 20 {
			if r := send(t, h, at); !r.Arrived || r.Err != nil {
				t.Fatalf("%s: %+v", at, r)
			}
		}
		if half := nstest.Run(t, h, "ss", "-Htan", "state", "syn-recv"); half != "" {
			t.Errorf("half-open connections are left: %s", half)
		}
		// A connection of the test's own comes behind those of the probes, if there were any.
		own := dial(t, h, at)
		_ = l.SetDeadline(time.Now().Add(10 * time.Second))
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = accepted.Close() }()
		if accepted.RemoteAddr().String() != own.LocalAddr().String() {
			t.Errorf("the service accepted a connection from %s", accepted.RemoteAddr())
		}
	}
}

func TestRefused(t *testing.T) {
	h := newHost(t)
	for _, at := range []string{"127.0.0.1:81", "[::1]:81"} {
		if r := send(t, h, at); !r.Arrived || !errors.Is(r.Err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %+v", at, r)
		}
	}
}

// TestLostReply: replies from port 82 leave by the default route.
func TestLostReply(t *testing.T) {
	h := newHost(t)
	track(t, h)
	for _, at := range []string{"10.9.0.1:82", "[::1]:82"} {
		listen(t, h, at)
		r := send(t, h, at)
		if r.Arrived || r.Err != nil || r.Flow == nil || !r.Flow.Replied {
			t.Errorf("%s: %+v, flow %+v", at, r, r.Flow)
		}
		if half := nstest.Run(t, h, "ss", "-Htan", "state", "syn-recv"); half != "" {
			t.Errorf("half-open connections are left: %s", half)
		}
	}
}

func TestNoRoute(t *testing.T) {
	h := newHost(t)
	nstest.Run(t, h, "ip", "route", "del", "default")
	if r := send(t, h, "192.0.2.1:80"); r.Arrived || !errors.Is(r.Err, syscall.ENETUNREACH) {
		t.Errorf("%+v", r)
	}
}

// TestDropped: the service's machine drops the SYN.
func TestDropped(t *testing.T) {
	h := newHost(t)
	track(t, h)
	listen(t, h, "127.0.0.1:80")
	nstest.Run(t, h, "nft", "add table ip f; add chain ip f in { type filter hook input priority 0; }; add rule ip f in tcp dport 80 drop")
	if r := send(t, h, "127.0.0.1:80"); r.Arrived || r.Err != nil || r.Flow == nil || r.Flow.Replied {
		t.Errorf("%+v, flow %+v", r, r.Flow)
	}
}

// TestTranslated: connection tracking tells which addresses the service sees.
func TestTranslated(t *testing.T) {
	h := newHost(t)
	nstest.Run(t, h, "nft", `add table ip n;
		add chain ip n post { type nat hook postrouting priority srcnat; };
		add rule ip n post tcp dport 80 snat to 127.0.0.9;
		add chain ip n out { type nat hook output priority -100; };
		add rule ip n out tcp dport 81 dnat to 127.0.0.2:80`)
	listen(t, h, "127.0.0.1:80")
	listen(t, h, "127.0.0.2:80")
	if r := send(t, h, "127.0.0.1:80"); r.Flow == nil || r.Flow.Source.Addr() != netip.MustParseAddr("127.0.0.9") {
		t.Errorf("%+v, flow %+v", r, r.Flow)
	}
	if r := send(t, h, "127.0.0.1:81"); r.Flow == nil || r.Flow.Dest != netip.MustParseAddrPort("127.0.0.2:80") {
		t.Errorf("%+v, flow %+v", r, r.Flow)
	}
}

// TestDescriptors: probes leave no descriptor open.
func TestDescriptors(t *testing.T) {
	h := newHost(t)
	listen(t, h, "127.0.0.1:80")
	send(t, h, "127.0.0.1:80")
	before := nstest.Descriptors(t, os.Getpid())
	for range 200 {
		send(t, h, "127.0.0.1:80")
		send(t, h, "127.0.0.1:81")
	}
	if after := nstest.Descriptors(t, os.Getpid()); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// track has the host's kernel track connections.
func track(t *testing.T, h *testnet.Host) {
	t.Helper()
	nstest.Run(t, h, "nft", "add table inet t; add chain inet t out { type filter hook output priority 0; }; add rule inet t out ct state new accept")
}

func listen(t *testing.T, h *testnet.Host, at string) *net.TCPListener {
	t.Helper()
	var l *net.TCPListener
	err := h.Do(func() (err error) {
		l, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort(at)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func dial(t *testing.T, h *testnet.Host, to string) net.Conn {
	t.Helper()
	var c net.Conn
	network := "tcp4"
	if strings.HasPrefix(to, "[") {
		network = "tcp6"
	}
	err := h.Do(func() (err error) {
		c, err = net.DialTCP(network, nil, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(to)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}
