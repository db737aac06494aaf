package load

import (
	"context"
	"net"
	"net/netip"

	"portredirector/bench/internal/world"
)

// serveDatagrams sends back what comes, to where it came from. Without a proxy it comes to M2's own address, by a proxy to the
// loopback interface; each has a socket, so that echoes leave from the right address.
func serveDatagrams(ctx context.Context, seen *Tally, ready func()) error {
	failed := make(chan error, 2)
	for _, at := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), world.M2Link.Addr()} {
		conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, world.ServicePort)))
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetReadBuffer(4 << 20) // or what the kernel permits
		go func() { failed <- echoDatagrams(conn, seen) }()
	}
	ready()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// echoDatagrams serves a socket until it is closed. A peer that has gone is no error.
func echoDatagrams(conn *net.UDPConn, seen *Tally) error {
	b := make([]byte, 1<<16)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(b)
		if err != nil {
			return err
		}
		seen.count(from.Addr())
		_, _ = conn.WriteToUDPAddrPort(b[:n], from)
	}
}
