package testnet_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// reach fails the test unless a client on one host is answered by a listener on another, who sees the source wanted.
func reach(t *testing.T, from *testnet.Host, local string, to *testnet.Host, remote, source string) {
	t.Helper()
	service := nstest.Echo(t, to, netip.AddrPortFrom(netip.MustParseAddr(remote), 0))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	var localAddr netip.AddrPort
	if local != "" {
		localAddr = netip.AddrPortFrom(netip.MustParseAddr(local), 0)
	}
	begin := time.Now()
	conn, err := from.Dial(ctx, localAddr, service.Addr())
	nstest.Must(t, err)
	defer conn.Close()
	if d := time.Since(begin); d > 500*time.Millisecond {
		t.Errorf("took %v to connect to %s", d, remote)
	}
	nstest.Must(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
	_, err = io.WriteString(conn, "hello")
	nstest.Must(t, err, conn.CloseWrite())
	if got, err := io.ReadAll(conn); err != nil || string(got) != "hello" {
		t.Errorf("echo from %s: %q, %v", remote, got, err)
	}
	if peers := service.Peers(); len(peers) != 1 || peers[0].Addr() != netip.MustParseAddr(source) {
		t.Errorf("service at %s saw %v, want %s", remote, peers, source)
	}
}

// noAnswer fails the test if a client on a host gets an answer from an address, be it a refusal.
func noAnswer(t *testing.T, from *testnet.Host, remote string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := from.Dial(ctx, netip.AddrPort{}, netip.AddrPortFrom(netip.MustParseAddr(remote), 80))
	if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
		t.Errorf("dialling %s: got %v, want no answer", remote, err)
	}
}

func TestLoopback(t *testing.T) {
	h := nstest.NewHost(t, "h")
	reach(t, h, "", h, "127.0.0.1", "127.0.0.1")
	reach(t, h, "127.0.0.7", h, "127.0.0.1", "127.0.0.7")
	reach(t, h, "", h, "::1", "::1")
}

func TestReachThroughRouter(t *testing.T) {
	west, router, east := nstest.NewHost(t, "west"), nstest.NewHost(t, "router"), nstest.NewHost(t, "east")
	nstest.Must(t,
		testnet.Connect(west, prefixes("10.1.0.2/24", "fd01::2/64"), router, prefixes("10.1.0.1/24", "fd01::1/64")),
		testnet.Connect(east, prefixes("10.2.0.2/24", "fd02::2/64"), router, prefixes("10.2.0.1/24", "fd02::1/64")),
		west.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.1.0.1")),
		west.AddRoute(netip.MustParsePrefix("::/0"), netip.MustParseAddr("fd01::1")),
		east.AddRoute(netip.MustParsePrefix("10.1.0.7/24"), netip.MustParseAddr("10.2.0.1")),
		east.AddRoute(netip.MustParsePrefix("fd01::/64"), netip.MustParseAddr("fd02::1")),
		router.SetSysctl("net.ipv4.ip_forward", "1"),
		router.SetSysctl("net.ipv6.conf.all.forwarding", "1"),
	)
	reach(t, west, "", east, "10.2.0.2", "10.1.0.2")
	reach(t, east, "", west, "10.1.0.2", "10.2.0.2")
	reach(t, west, "", east, "fd02::2", "fd01::2")
	reach(t, east, "", west, "fd01::2", "fd02::2")
}

func TestBridge(t *testing.T) {
	host, one, two := nstest.NewHost(t, "host"), nstest.NewHost(t, "one"), nstest.NewHost(t, "two")
	nstest.Must(t,
		host.Bridge("br0", prefixes("172.17.0.1/16", "fd17::1/64")...),
		host.Attach("br0", one, prefixes("172.17.0.2/16", "fd17::2/64")...),
		host.Attach("br0", two, prefixes("172.17.0.3/16", "fd17::3/64")...),
	)
	reach(t, host, "", one, "172.17.0.2", "172.17.0.1")
	reach(t, one, "", host, "172.17.0.1", "172.17.0.2")
	reach(t, one, "", two, "172.17.0.3", "172.17.0.2")
	reach(t, one, "", two, "fd17::3", "fd17::2")
	reach(t, one, "", host, "fd17::1", "fd17::2")
	if err := host.Attach("br1", nstest.NewHost(t, "three")); err == nil {
		t.Error("attached a guest to a bridge that is not there")
	}
}

func TestAddAddr(t *testing.T) {
	a, b := nstest.NewHost(t, "a"), nstest.NewHost(t, "b")
	nstest.Must(t, testnet.Connect(a, prefixes("10.0.0.1/24"), b, prefixes("10.0.0.2/24")))
	nstest.Must(t,
		a.AddAddr("b", netip.MustParsePrefix("10.0.0.9/24")),
		b.AddAddr("lo", netip.MustParsePrefix("203.0.113.1/32")),
		a.AddRoute(netip.MustParsePrefix("203.0.113.0/24"), netip.MustParseAddr("10.0.0.2")),
	)
	reach(t, a, "10.0.0.9", b, "203.0.113.1", "10.0.0.9")
	if err := a.AddAddr("c", netip.MustParsePrefix("10.0.0.9/24")); err == nil {
		t.Error("gave an address to an interface that is not there")
	}
}

func TestLoseAndRegain(t *testing.T) {
	a, b := nstest.NewHost(t, "a"), nstest.NewHost(t, "b")
	nstest.Must(t, testnet.Connect(a, prefixes("10.0.0.1/24", "fd00::1/64"), b, prefixes("10.0.0.2/24", "fd00::2/64")))
	for _, addr := range []string{"10.0.0.2", "fd00::2"} {
		neighbour := netip.MustParseAddr(addr)
		nstest.Must(t, a.Lose("b", neighbour))
		noAnswer(t, a, addr)
		nstest.Must(t, a.Regain("b", neighbour))
	}
	reach(t, a, "", b, "10.0.0.2", "10.0.0.1")
	reach(t, a, "", b, "fd00::2", "fd00::1")
}

func TestConnectTwice(t *testing.T) {
	a, b := nstest.NewHost(t, "a"), nstest.NewHost(t, "b")
	nstest.Must(t, testnet.Connect(a, nil, b, nil))
	if err := testnet.Connect(a, nil, b, nil); err == nil {
		t.Error("two hosts were joined twice")
	}
}
