package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"text/tabwriter"

	"portredirector/internal/testnet"
)

// startService starts the demo's service in a host, by TCP and UDP. The returned function ends it and waits
// for that.
func startService(h *testnet.Host) (stop func(), err error) {
	var running sync.WaitGroup
	var open []io.Closer
	stop = func() {
		for _, c := range open {
			_ = c.Close()
		}
		running.Wait()
	}
	for _, addr := range []string{"127.0.0.1", "::1"} {
		at := netip.AddrPortFrom(netip.MustParseAddr(addr), demoPort)
		l, err := h.Listen(at)
		if err != nil {
			return stop, err
		}
		open = append(open, l)
		running.Go(func() { serveAddresses(l) })
		var c *net.UDPConn
		err = h.Do(func() (err error) {
			c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
			return err
		})
		if err != nil {
			return stop, err
		}
		open = append(open, c)
		running.Go(func() { answerAddresses(c) })
	}
	return stop, nil
}

// answerAddresses serves the demo's service by UDP: it answers each datagram with the address that it sees. It
// returns when the socket is closed.
func answerAddresses(c *net.UDPConn) {
	for {
		_, from, err := c.ReadFromUDPAddrPort(nil)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		_, _ = c.WriteToUDPAddrPort([]byte(from.String()), from)
	}
}

// serveAddresses serves the demo's service: it writes to each peer the address that it sees. It returns
// when the listener is closed.
func serveAddresses(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		fmt.Fprintln(c, c.RemoteAddr())
		_ = c.Close()
	}
}

// demoVisit is a row of the demo.
type demoVisit struct {
	name  string
	peer  demoPeer
	visit func(ctx context.Context, peer *testnet.Host, at netip.AddrPort) (is, seen string, err error)
}

// demoVisits lists what the peers do: each connects, and the first sends a datagram, too.
func demoVisits() (all []demoVisit) {
	for _, p := range demoPeers {
		all = append(all, demoVisit{p.name, p, visit})
	}
	first := demoPeers[0]
	return append(all, demoVisit{first.name + ", UDP", first, visitUDP})
}

// comparePeers makes every peer connect, and prints its address and the one that the service saw.
func comparePeers(ctx context.Context, e env, hosts map[string]*testnet.Host) error {
	w := tabwriter.NewWriter(e.stdout, 0, 0, 4, ' ', 0)
	fmt.Fprintln(w, "  peer\tis\tthe service saw\t")
	differ, visits := 0, demoVisits()
	for _, v := range visits {
		at := netip.AddrPortFrom(netip.MustParsePrefix(v.peer.m1).Addr(), demoPort)
		is, seen, err := v.visit(ctx, hosts[v.peer.name], at)
		verdict := "the same"
		switch {
		case err != nil:
			seen, verdict = err.Error(), "NOT SERVED"
		case is != seen:
			verdict = "ANOTHER"
		}
		if err != nil || is != seen {
			differ++
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", v.name, is, seen, verdict)
	}
	_ = w.Flush()
	if differ > 0 {
		return fmt.Errorf("the service did not see %d of %d peers as they are", differ, len(visits))
	}
	fmt.Fprintln(e.stdout, "\nThe service saw every peer as it is, though m2's default route leads elsewhere.")
	return nil
}

// visit connects as a peer. It returns the peer's address, and the one that the service saw.
func visit(ctx context.Context, peer *testnet.Host, at netip.AddrPort) (is, seen string, err error) {
	c, err := peer.Dial(ctx, netip.AddrPort{}, at)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = c.Close() }()
	is = c.LocalAddr().String()
	deadline, _ := ctx.Deadline()
	if err := c.SetReadDeadline(deadline); err != nil {
		return is, "", err
	}
	b, err := io.ReadAll(c)
	return is, strings.TrimSpace(string(b)), err
}

// visitUDP is like visit, by UDP.
func visitUDP(ctx context.Context, peer *testnet.Host, at netip.AddrPort) (is, seen string, err error) {
	var c *net.UDPConn
	err = peer.Do(func() (err error) {
		c, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
		return err
	})
	if err != nil {
		return "", "", err
	}
	defer func() { _ = c.Close() }()
	is = c.LocalAddr().String()
	deadline, _ := ctx.Deadline()
	if err := c.SetReadDeadline(deadline); err != nil {
		return is, "", err
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		return is, "", err
	}
	b := make([]byte, 100)
	n, err := c.Read(b)
	return is, string(b[:n]), err
}
