package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"text/tabwriter"

	"portredirector/internal/testnet"
)

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

// comparePeers makes every peer connect, and prints its address and the one that the service saw.
func comparePeers(ctx context.Context, e env, hosts map[string]*testnet.Host) error {
	w := tabwriter.NewWriter(e.stdout, 0, 0, 4, ' ', 0)
	fmt.Fprintln(w, "  peer\tis\tthe service saw\t")
	differ := 0
	for _, p := range demoPeers {
		at := netip.AddrPortFrom(netip.MustParsePrefix(p.m1).Addr(), demoPort)
		is, seen, err := visit(ctx, hosts[p.name], at)
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
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", p.name, is, seen, verdict)
	}
	_ = w.Flush()
	if differ > 0 {
		return fmt.Errorf("the service did not see %d of %d peers as they are", differ, len(demoPeers))
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
