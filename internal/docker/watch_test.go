package docker

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/ports"
)

// TestWatchLooks follows sockets and processes through the life of a published port.
func TestWatchLooks(t *testing.T) {
	for _, p := range []ports.Protocol{ports.TCP, ports.UDP} {
		t.Run(p.String(), func(t *testing.T) { testWatchLooks(t, p) })
	}
}

func testWatchLooks(t *testing.T, p ports.Protocol) {
	service := Service{Port: ports.Port{Protocol: p, Number: 443}, At: netip.MustParseAddrPort("127.0.0.1:80")}
	other := Proxy{Protocol: 1 - p, Host: service.At, Container: netip.MustParseAddrPort("172.17.0.3:80")}
	container := netip.MustParseAddrPort("172.17.0.2:80")
	inFront := Proxy{Protocol: p, Host: netip.MustParseAddrPort("0.0.0.0:80"), Container: container}
	otherFamily := inFront
	otherFamily.Container = netip.MustParseAddrPort("[fd00::2]:80")

	var sockets []listener
	var socketsErr error
	var processes Proxies
	looks := 0
	e := New("/none", nil, slog.New(slog.DiscardHandler))
	var hidden map[ports.Endpoint]error
	w := watch{
		proxies:   func(context.Context) Proxies { looks++; return processes },
		listeners: func(map[ports.Port]bool) ([]listener, error) { return sockets, socketsErr },
		lead:      e.lead,
		hide:      func(h map[ports.Endpoint]error) { hidden = h },
	}
	for _, step := range []struct {
		name    string
		sockets []listener
		err     error
		proxies Proxies
		at      netip.AddrPort // where peers are led
		hides   bool
	}{
		{name: "the service", sockets: []listener{{service.At, 1}}, proxies: Proxies{other}, at: service.At},
		{name: "docker-proxy", sockets: []listener{{inFront.Host, 2}}, proxies: Proxies{inFront}, at: container},
		{name: "gone", at: service.At},
		{name: "the other family", sockets: []listener{{inFront.Host, 4}}, proxies: Proxies{otherFamily}, at: service.At, hides: true},
		{name: "the service again", sockets: []listener{{service.At, 5}}, at: service.At},
	} {
		sockets, processes = step.sockets, step.proxies
		looks = 0
		for range 3 * looksAfter {
			w.look(t.Context(), []Service{service})
		}
		if looks != looksAfter {
			t.Errorf("%s: %d looks at the processes, want %d", step.name, looks, looksAfter)
		}
		if got := e.Instead(service.Endpoint()); got != step.at {
			t.Errorf("%s: peers are led to %s, want %s", step.name, got, step.at)
		}
		if got := hidden[service.Endpoint()] != nil; got != step.hides {
			t.Errorf("%s: hidden is %t", step.name, got)
		}
	}
	socketsErr, looks = errors.New("no sock_diag"), 0
	for range 3 * looksBlind {
		w.look(t.Context(), []Service{service})
	}
	if looks != 3 {
		t.Errorf("%d looks at the processes where sockets cannot be listed, want 3", looks)
	}
}

// TestListeners finds the sockets of this process, and tells one from the next
// on the same port.
func TestListeners(t *testing.T) {
	var cookies []uint64
	port := uint16(0)
	for range 2 {
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)})
		if err != nil {
			t.Fatal(err)
		}
		at := l.Addr().(*net.TCPAddr).AddrPort()
		port = at.Port()
		list, err := listeners(map[ports.Port]bool{{Number: port}: true})
		if err != nil {
			t.Fatal(err)
		}
		if len(list) != 1 || list[0].at != at {
			t.Fatalf("%v, want one at %s", list, at)
		}
		cookies = append(cookies, list[0].cookie)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	datagrams, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = datagrams.Close() }()
	if list, err := listeners(map[ports.Port]bool{{Protocol: ports.UDP, Number: port}: true}); err != nil || len(list) != 1 {
		t.Errorf("by UDP: %v, %v, want one", list, err)
	}
	if cookies[0] == cookies[1] {
		t.Errorf("both sockets have the cookie %d", cookies[0])
	}
	if list, err := listeners(map[ports.Port]bool{{Number: port}: true}); err != nil || len(list) != 0 {
		t.Errorf("%v, %v, want none", list, err)
	}
}

// TestReachable drops the addresses that no network of this machine has.
func TestReachable(t *testing.T) {
	here4, here6 := netip.MustParseAddr("172.17.0.2"), netip.MustParseAddr("fd00::2")
	there4, there6 := netip.MustParseAddr("10.0.2.100"), netip.MustParseAddr("fd99::2")
	e := New("/none", []string{"web"}, slog.New(slog.DiscardHandler))
	strange := map[netip.Addr]bool{there4: true, there6: true}
	e.CheckNetworks(func(a netip.Addr) bool { return strange[a] })
	for name, tt := range map[string]struct {
		is, want place
		nowhere  bool
	}{
		"here":          {is: place{v4: here4, v6: here6}, want: place{v4: here4, v6: here6}},
		"one family":    {is: place{v4: here4, v6: there6}, want: place{v4: here4, strange: there6}},
		"elsewhere":     {is: place{v4: there4}, want: place{strange: there4}, nowhere: true},
		"both, neither": {is: place{v4: there4, v6: there6}, want: place{strange: there6}, nowhere: true},
	} {
		got := e.reachable("web", tt.is)
		if (got.err != nil) != tt.nowhere {
			t.Errorf("%s: %v", name, got.err)
		}
		got.err = nil
		if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b place) bool { return a == b })); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	p := e.reachable("web", place{v4: there4})
	e.containers["web"].Store(&p)
	if e.Unhealthy() == nil || e.networksChanged() {
		t.Errorf("healthy: %v, networks changed: %t", e.Unhealthy(), e.networksChanged())
	}
	strange[there4] = false // its network comes to be
	if !e.networksChanged() {
		t.Error("networks have not changed")
	}
}
