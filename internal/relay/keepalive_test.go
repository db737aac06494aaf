package relay_test

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/relay"
	"portredirector/internal/testnet/nstest"
)

// TestKeepAlive checks that the dialed socket of a pair that lives gets its keepalive, and
// that a zero value turns it off.
func TestKeepAlive(t *testing.T) {
	for want, o := range []relay.Options{
		{},
		{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: 7 * time.Second, Interval: 3 * time.Second, Count: 2}},
	} {
		peer, acceptedEnd := tcpPair(t)
		dialedEnd, service := tcpPair(t)
		fd := detach(t, dialedEnd)
		nstest.Must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1-want))
		newEngine(t, o).Relay(relay.Pair{Accepted: detach(t, acceptedEnd), Dialed: fd})
		nstest.WaitFor(t, "keepalive", func() bool {
			is, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE)
			nstest.Must(t, err)
			return is == want
		})
		if want == 1 {
			nstest.WaitFor(t, "the whole of it", func() bool {
				n, _ := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT)
				return n == 2
			})
		}
		_, _ = peer.Close(), service.Close()
	}
}
