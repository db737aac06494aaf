package nstest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"portredirector/internal/testnet"
)

// Reach fails the test unless a client on one host gets an echo from a service on another one, and the service sees the source
// wanted. The client binds to local, unless that is empty.
func Reach(tb testing.TB, from *testnet.Host, local string, to *testnet.Host, remote, source string) {
	tb.Helper()
	service := Echo(tb, to, netip.AddrPortFrom(netip.MustParseAddr(remote), 0))
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	var localAddr netip.AddrPort
	if local != "" {
		localAddr = netip.AddrPortFrom(netip.MustParseAddr(local), 0)
	}
	begin := time.Now()
	conn, err := from.Dial(ctx, localAddr, service.Addr())
	Must(tb, err)
	defer conn.Close()
	if d := time.Since(begin); d > 500*time.Millisecond { // the first SYN was lost
		tb.Errorf("took %v to connect to %s", d, remote)
	}
	Must(tb, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(conn, "hello")
	Must(tb, err, conn.CloseWrite())
	if got, err := io.ReadAll(conn); err != nil || string(got) != "hello" {
		tb.Errorf("echo from %s: %q, %v", remote, got, err)
	}
	if peers := service.Peers(); len(peers) != 1 || peers[0].Addr() != netip.MustParseAddr(source) {
		tb.Errorf("service at %s saw %v, want %s", remote, peers, source)
	}
}

// NoAnswer fails the test if a client on a host gets an answer from an address, or a refusal.
func NoAnswer(tb testing.TB, from *testnet.Host, remote string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := from.Dial(ctx, netip.AddrPort{}, netip.AddrPortFrom(netip.MustParseAddr(remote), 80))
	if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
		tb.Errorf("dial %s: got %v, want no answer", remote, err)
	}
}

// Prefixes parses addresses with a prefix length.
func Prefixes(s ...string) []netip.Prefix {
	var ps []netip.Prefix
	for _, p := range s {
		ps = append(ps, netip.MustParsePrefix(p))
	}
	return ps
}
