package main

import (
	"errors"
	"net/netip"
	"time"

	"portredirector/internal/testnet"
)

// The demo's network. M1's addresses are the gateways of the peers' networks;
// the service's port is the same everywhere.
const (
	demoPort   = 8080
	serverPort = "12345"
	demoTime   = 30 * time.Second // the whole demo takes less than one
)

// demoPeer is a host of the demo, with its address and that of M1 in its network.
type demoPeer struct{ name, addr, m1 string }

var demoPeers = []demoPeer{
	{"alice", "203.0.113.10/24", "203.0.113.1/24"},
	{"bob", "198.51.100.20/24", "198.51.100.1/24"},
	{"carol", "2001:db8:ca::30/64", "2001:db8:ca::1/64"},
}

const demoPicture = `
  alice  203.0.113.10      ─┐
  bob    198.51.100.20     ─┼─  m1  ══ link ══  m2  ──  isp2, where m2's default route goes
  carol  2001:db8:ca::30   ─┘                   └─ service on 127.0.0.1:8080 and [::1]:8080, TCP and UDP

  m2 $ portredirector server -l 12345 -p 8080 -p 8080/udp
  m1 $ portredirector client -c 10.0.0.2:12345 -p 8080 -p 8080/udp

`

// demoNetwork builds the hosts. It also returns those that it made if it fails.
func demoNetwork() (map[string]*testnet.Host, error) {
	hosts := make(map[string]*testnet.Host)
	for _, name := range []string{"m1", "m2", "isp2", "alice", "bob", "carol"} {
		h, err := testnet.NewHost(name)
		if err != nil {
			return hosts, err
		}
		hosts[name] = h
	}
	cable := func(a, aAddr, b, bAddr string) error {
		return testnet.Connect(hosts[a], []netip.Prefix{netip.MustParsePrefix(aAddr)}, hosts[b], []netip.Prefix{netip.MustParsePrefix(bAddr)})
	}
	errs := []error{
		cable("m1", "10.0.0.1/24", "m2", "10.0.0.2/24"),
		cable("m2", "192.0.2.2/24", "isp2", "192.0.2.1/24"),
		hosts["m2"].AddRoute(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("192.0.2.1")),
	}
	for _, p := range demoPeers {
		errs = append(errs, cable(p.name, p.addr, "m1", p.m1))
	}
	return hosts, errors.Join(errs...)
}
