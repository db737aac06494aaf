package world

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/far"
)

// The addresses of a world. The peers are as many as fit: the generator never
// runs out of ports, and no two of its connections collide.
var (
	PeersNet    = netip.MustParsePrefix("10.64.0.1/16")
	peersUplink = netip.MustParsePrefix("192.168.1.2/24")
	m1Peers     = netip.MustParsePrefix("192.168.1.1/24")
	m1Link      = netip.MustParsePrefix("10.0.0.1/24")
	M2Link      = netip.MustParsePrefix("10.0.0.2/24")
	everywhere  = netip.MustParsePrefix("0.0.0.0/0")
)

// The ports. A service has one port, everywhere.
const (
	ServicePort = 8080
	LinkPort    = 12345
)

// Where things are, for all contenders.
var (
	EntryAddr   = netip.AddrPortFrom(m1Peers.Addr(), ServicePort)                 // where a proxy's peers connect
	LinkAddr    = netip.AddrPortFrom(M2Link.Addr(), LinkPort)                     // where the proxy on M2 takes links
	BackAddr    = netip.AddrPortFrom(m1Link.Addr(), LinkPort)                     // where the client takes links, if the server dials
	ServiceAddr = netip.AddrPortFrom(netip.MustParseAddr("0.0.0.0"), ServicePort) // where the service listens, on M2
)

// The sizes of socket buffers, least, at first and most, where M1 and M2 are far
// from each other: more than the bytes that are on such a way, so that nobody
// waits for a window. They are what the kernel has by default, but for the most.
const (
	farReceive = "4096 131072 67108864"
	farSend    = "4096 16384 67108864"
)

// World is the network of one measurement, and what runs in it:
//
//	peers (10.64.0.0/16) ── M1 ── M2 (the service)
type World struct {
	Peers, M1, M2 *testnet.Host
	far           *far.Link // between M1 and M2, if they are far from each other
	Scratch       string    // a directory for files
	processes     []*Process
}

// New builds a world with a path between M1 and M2. A path without a delay is a cable. The caller must close the world.
func New(scratch string, way far.Path) (*World, error) {
	w := &World{Scratch: scratch}
	if err := w.build(way); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (w *World) build(way far.Path) (err error) {
	for name, host := range map[string]**testnet.Host{"peers": &w.Peers, "m1": &w.M1, "m2": &w.M2} {
		if *host, err = testnet.NewHost(name); err != nil {
			return err
		}
	}
	one := func(p netip.Prefix) []netip.Prefix { return []netip.Prefix{p} }
	return errors.Join(
		testnet.Connect(w.Peers, one(peersUplink), w.M1, one(m1Peers)),
		w.connect(one(m1Link), one(M2Link), way),
		// All of a network that the loopback interface has is local, as 127.0.0.0/8 is.
		w.Peers.AddAddr("lo", PeersNet),
		w.Peers.AddRoute(everywhere, m1Peers.Addr()),
		w.M1.AddRoute(PeersNet, peersUplink.Addr()),
		w.M2.AddRoute(everywhere, m1Link.Addr()),
	)
}

// connect joins M1 and M2.
func (w *World) connect(m1, m2 []netip.Prefix, way far.Path) (err error) {
	if way.Delay == 0 {
		return testnet.Connect(w.M1, m1, w.M2, m2)
	}
	if w.far, err = far.Connect(w.M1, m1, w.M2, m2, way); err != nil {
		return err
	}
	var errs []error
	for _, h := range []*testnet.Host{w.Peers, w.M1, w.M2} {
		errs = append(errs, h.SetSysctl("net.ipv4.tcp_rmem", farReceive), h.SetSysctl("net.ipv4.tcp_wmem", farSend))
	}
	return errors.Join(errs...)
}

// Start starts a program in one of the hosts. It must run until the world is closed: ending earlier is an error of Close.
func (w *World) Start(ctx context.Context, h *testnet.Host, path string, args ...string) (*Process, error) {
	p, err := startProcess(ctx, h, false, path, args...)
	if err == nil {
		w.processes = append(w.processes, p)
	}
	return p, err
}

// Play starts this program in one of the roles.
func (w *World) Play(ctx context.Context, h *testnet.Host, role string, args ...string) (*Process, error) {
	return startProcess(ctx, h, true, "/proc/self/exe", append([]string{role}, args...)...)
}

// Close ends all that was started and gives up the hosts.
func (w *World) Close() error {
	var errs []error
	for _, p := range slices.Backward(w.processes) {
		errs = append(errs, p.Kill())
	}
	if w.far != nil {
		errs = append(errs, w.far.Close())
	}
	for _, h := range []*testnet.Host{w.Peers, w.M1, w.M2} {
		if h != nil {
			errs = append(errs, h.Close())
		}
	}
	return errors.Join(errs...)
}

// Command runs a program in a host to its end.
func (w *World) Command(ctx context.Context, h *testnet.Host, path string, args ...string) error {
	p, err := startProcess(ctx, h, false, path, args...)
	if err != nil {
		return err
	}
	<-p.Ended
	if p.err != nil {
		return fmt.Errorf("%s: %w", strings.Join(append([]string{path}, args...), " "), p.Failure())
	}
	return nil
}
