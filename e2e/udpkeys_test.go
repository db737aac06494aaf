package e2e_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/testnet/nstest"
)

// wantFlowSoon is like wantFlow, and sends again what is lost while no server is in use.
func wantFlowSoon(t *testing.T, c *net.UDPConn, payload string) {
	t.Helper()
	nstest.WaitFor(t, "an answer to "+payload, func() bool {
		err := request(c, payload, 100*time.Millisecond)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatal(err)
		}
		return err == nil
	})
}

// TestDatagramsWithKeys leads flows over links that either end dials. They go on from the same source when an
// end starts anew, also after it was killed.
func TestDatagramsWithKeys(t *testing.T) {
	const ports = " -p 53/udp"
	for name, tt := range map[string]struct {
		trust          func(t *testing.T) trust
		client, server string
		restarts       bool
	}{
		"client dials":                {newKeys, "-c " + linkTo, "-l " + linkPort, true},
		"client dials, certificates":  {certificates, "-c " + linkTo, "-l " + linkPort, false},
		"client dials, authenticated": {authOnly, "-c " + linkTo, "-l " + linkPort, false},
		"server dials":                {newKeys, "-l 12345", "-c " + clientAt, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			udpReport(t, w.m2, "127.0.0.1:53")
			keys := tt.trust(t)
			startServer := func() *daemon { return start(t, w.m2, "server", tt.server+ports+" "+keys.server) }
			startClient := func() *daemon { return start(t, w.m1, "client", tt.client+ports+" "+keys.client) }
			server, client := startServer(), startClient()
			c := udpPeer(t, w.alice, 53)
			wantFlowSoon(t, c, "hello")
			for _, size := range []int{0, 1, 1200, 1472, 9000, 60000} {
				wantFlow(t, c, strings.Repeat("x", size))
			}
			if !tt.restarts {
				return
			}
			for i, end := range []func(d *daemon){
				func(d *daemon) { d.Signal(syscall.SIGTERM); d.wantEnd(t) },
				func(d *daemon) { d.ended = true; d.Signal(syscall.SIGKILL); d.Wait() },
			} {
				end(client)
				client = startClient()
				wantFlowSoon(t, c, fmt.Sprint("client ", i))
				end(server)
				server = startServer()
				wantFlowSoon(t, c, fmt.Sprint("server ", i))
			}
		})
	}
}

// TestReloadedDatagramsWithKeys reloads both ends under a peer that goes on, and under one that only listens. Their sources stay the same,
// whichever end dials.
func TestReloadedDatagramsWithKeys(t *testing.T) {
	for name, tt := range map[string]struct {
		client, server string
		listens        bool // a peer that only listens gets what is sent after a reload of the client, too
	}{
		"client dials": {"-c " + linkTo, "-l :" + linkPort, true},
		"server dials": {"-l :12345", "-c " + clientAt, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			udpReport(t, w.m2, "127.0.0.1:53")
			stream := udpSocket(t, w.m2, "127.0.0.1:54")
			keys := newKeys(t)
			server := supervise(t, w.m2, section("server.home", tt.server+" -p 53-54/udp "+keys.server))
			client := supervise(t, w.m1, section("client.edge", tt.client+" -p 53-54/udp "+keys.client))
			c, listener := udpPeer(t, w.alice, 53), udpPeer(t, w.bob, 54)
			wantFlowSoon(t, c, "before")
			peer := reach(t, listener, stream)
			for i, of := range []*supervised{server, client, server, client} {
				of.wantReload(t)
				if said := fmt.Sprint("news ", i); of == server || tt.listens {
					_, err := stream.WriteToUDPAddrPort([]byte(said), peer)
					nstest.Must(t, err)
					if got := receive(t, listener); got != said {
						t.Errorf("the peer got %q, want %q", got, said)
					}
				} else if again := reach(t, listener, stream); again != peer {
					t.Errorf("the service sees %v, want %v", again, peer)
				}
				wantFlowSoon(t, c, fmt.Sprint("after ", i))
			}
		})
	}
}

// reach sends datagrams of a peer until the service has one. It returns the address that the service sees.
func reach(t *testing.T, peer, service *net.UDPConn) (from netip.AddrPort) {
	t.Helper()
	nstest.WaitFor(t, "a datagram at the service", func() bool {
		say(t, peer, "go on")
		nstest.Must(t, service.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
		var err error
		_, from, err = service.ReadFromUDPAddrPort(make([]byte, 100))
		return err == nil
	})
	return from
}
