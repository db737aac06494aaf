package testnet_test

import (
	"net/netip"
	"testing"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

func TestLoopback(t *testing.T) {
	h := nstest.NewHost(t, "h")
	nstest.Reach(t, h, "", h, "127.0.0.1", "127.0.0.1")
	nstest.Reach(t, h, "127.0.0.7", h, "127.0.0.1", "127.0.0.7")
	nstest.Reach(t, h, "", h, "::1", "::1")
}

func TestReachThroughRouter(t *testing.T) {
	west, router, east := nstest.NewHost(t, "west"), nstest.NewHost(t, "router"), nstest.NewHost(t, "east")
	nstest.Must(t,
		testnet.Connect(west, nstest.Prefixes("10.1.0.2/24", "fd01::2/64"), router, nstest.Prefixes("10.1.0.1/24", "fd01::1/64")),
		testnet.Connect(east, nstest.Prefixes("10.2.0.2/24", "fd02::2/64"), router, nstest.Prefixes("10.2.0.1/24", "fd02::1/64")),
		west.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.1.0.1")),
		west.AddRoute(netip.MustParsePrefix("::/0"), netip.MustParseAddr("fd01::1")),
		east.AddRoute(netip.MustParsePrefix("10.1.0.7/24"), netip.MustParseAddr("10.2.0.1")),
		east.AddRoute(netip.MustParsePrefix("fd01::/64"), netip.MustParseAddr("fd02::1")),
		router.SetSysctl("net.ipv4.ip_forward", "1"),
		router.SetSysctl("net.ipv6.conf.all.forwarding", "1"),
	)
	nstest.Reach(t, west, "", east, "10.2.0.2", "10.1.0.2")
	nstest.Reach(t, east, "", west, "10.1.0.2", "10.2.0.2")
	nstest.Reach(t, west, "", east, "fd02::2", "fd01::2")
	nstest.Reach(t, east, "", west, "fd01::2", "fd02::2")
}

func TestBridge(t *testing.T) {
	host, one, two := nstest.NewHost(t, "host"), nstest.NewHost(t, "one"), nstest.NewHost(t, "two")
	nstest.Must(t,
		host.Bridge("br0", nstest.Prefixes("172.17.0.1/16", "fd17::1/64")...),
		host.Attach("br0", one, nstest.Prefixes("172.17.0.2/16", "fd17::2/64")...),
		host.Attach("br0", two, nstest.Prefixes("172.17.0.3/16", "fd17::3/64")...),
	)
	nstest.Reach(t, host, "", one, "172.17.0.2", "172.17.0.1")
	nstest.Reach(t, one, "", host, "172.17.0.1", "172.17.0.2")
	nstest.Reach(t, one, "", two, "172.17.0.3", "172.17.0.2")
	nstest.Reach(t, one, "", two, "fd17::3", "fd17::2")
	nstest.Reach(t, one, "", host, "fd17::1", "fd17::2")
	if err := host.Attach("br1", nstest.NewHost(t, "three")); err == nil {
		t.Error("attached a guest to a bridge that is not there")
	}
}

func TestAddAddr(t *testing.T) {
	a, b := nstest.NewHost(t, "a"), nstest.NewHost(t, "b")
	nstest.Must(t, testnet.Connect(a, nstest.Prefixes("10.0.0.1/24"), b, nstest.Prefixes("10.0.0.2/24")))
	nstest.Must(t,
		a.AddAddr("b", netip.MustParsePrefix("10.0.0.9/24")),
		b.AddAddr("lo", netip.MustParsePrefix("203.0.113.1/32")),
		a.AddRoute(netip.MustParsePrefix("203.0.113.0/24"), netip.MustParseAddr("10.0.0.2")),
	)
	nstest.Reach(t, a, "10.0.0.9", b, "203.0.113.1", "10.0.0.9")
	if err := a.AddAddr("c", netip.MustParsePrefix("10.0.0.9/24")); err == nil {
		t.Error("gave an address to an interface that is not there")
	}
}

func TestLoseAndRegain(t *testing.T) {
	a, b := nstest.NewHost(t, "a"), nstest.NewHost(t, "b")
	nstest.Must(t, testnet.Connect(a, nstest.Prefixes("10.0.0.1/24", "fd00::1/64"), b, nstest.Prefixes("10.0.0.2/24", "fd00::2/64")))
	for _, addr := range []string{"10.0.0.2", "fd00::2"} {
		neighbor := netip.MustParseAddr(addr)
		nstest.Must(t, a.Lose("b", neighbor))
		nstest.NoAnswer(t, a, addr)
		nstest.Must(t, a.Regain("b", neighbor))
	}
	nstest.Reach(t, a, "", b, "10.0.0.2", "10.0.0.1")
	nstest.Reach(t, a, "", b, "fd00::2", "fd00::1")
}

func TestConnectTwice(t *testing.T) {
	a, b := nstest.NewHost(t, "a"), nstest.NewHost(t, "b")
	nstest.Must(t, testnet.Connect(a, nil, b, nil))
	if err := testnet.Connect(a, nil, b, nil); err == nil {
		t.Error("two hosts were joined twice")
	}
}
