package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// TestPeerInTheServicesNetwork has peers on M1 whose networks have the same addresses as networks of M2. A service on M2 itself
// serves them. Where M2 reaches the service through that network, replies would go to a neighbor there. So the peer is refused
// at once, and the log has the reason.
func TestPeerInTheServicesNetwork(t *testing.T) {
	for _, tt := range []struct {
		name, peer, m1, service string
		refused                 bool
	}{
		{"loopback", "172.30.0.77/24", "172.30.0.78/24", "127.0.0.1:80", false},
		{"own address in that network", "172.30.0.77/24", "172.30.0.78/24", "172.30.0.1:80", false},
		{"own address in another network", "172.30.0.77/24", "172.30.0.78/24", "192.0.2.2:80", false},
		{"guest in another network", "192.0.2.77/24", "192.0.2.78/24", "172.30.0.2:80", false},
		{"guest in that network", "172.30.0.77/24", "172.30.0.78/24", "172.30.0.2:80", true},
		{"guest in that network, the address of another guest", "172.30.0.3/24", "172.30.0.78/24", "172.30.0.2:80", true},
		{"guest in that network, IPv6", "fd00:30::77/64", "fd00:30::78/64", "[fd00:30::2]:80", true},
		{"own address in that network, IPv6", "fd00:30::77/64", "fd00:30::78/64", "[fd00:30::1]:80", false},
		{"behind a router in that network", "172.30.0.77/24", "172.30.0.78/24", "10.99.0.2:80", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var dave peer
			w := newWorld(t, func(w *world) {
				dave = w.newPeer(t, "dave", tt.peer, tt.m1)
				third := nstest.NewHost(t, "third") // the guest is its router
				connect(t, w.guest, "10.99.0.1/24", third, "10.99.0.2/24")
				nstest.Must(t, w.guest.SetSysctl("net.ipv4.ip_forward", "1"))
				route(t, third, "0.0.0.0/0", "10.99.0.1")
				route(t, w.m2, "10.99.0.0/24", "172.30.0.2")
				other := nstest.NewHost(t, "other")
				nstest.Must(t, w.m2.Attach(bridge, other, prefixes("172.30.0.3/24")...))
				for _, h := range []*testnet.Host{w.m2, w.guest, third} {
					service, err := h.Listen(addrPort(t, tt.service))
					if err != nil {
						continue // it is elsewhere
					}
					t.Cleanup(func() { _ = service.Close() })
					each(t, service, func(c *net.TCPConn) { fmt.Fprintf(c, "saw %s", c.RemoteAddr()) })
				}
			})
			server := w.server(t, "-p 80="+tt.service)
			w.client(t, "-p 80")
			c := dial(t, dave.Host, dave.at(80))
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second)) // before the client gives up
			b, err := io.ReadAll(c)
			switch {
			case !tt.refused && (err != nil || string(b) != fmt.Sprint("saw ", c.LocalAddr())):
				t.Errorf("got %q, %v, want to be served", b, err)
			case tt.refused && !errors.Is(err, syscall.ECONNRESET):
				t.Errorf("got %q, %v, want a reset", b, err)
			case tt.refused:
				server.WaitOutput("replies would go to a neighbor there")
			}
		})
	}
}
