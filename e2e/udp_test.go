package e2e_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// udpSocket opens a UDP socket in a host, and closes it at the end of the test.
func udpSocket(t *testing.T, h *testnet.Host, addr string) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	nstest.Must(t, h.Do(func() (err error) {
		network := "udp"
		at := netip.MustParseAddrPort(addr)
		if at.Addr().Is4() {
			network = "udp4"
		}
		c, err = net.ListenUDP(network, net.UDPAddrFromAddrPort(at))
		return err
	}))
	t.Cleanup(func() { _ = c.Close() })
	nstest.Must(t, c.SetDeadline(time.Now().Add(patience)))
	return c
}

// udpReport serves UDP in a host: it answers each datagram with the address that it came from, a space, and what it was.
func udpReport(t *testing.T, h *testnet.Host, addr string) {
	t.Helper()
	c := udpSocket(t, h, addr)
	nstest.Must(t, c.SetDeadline(time.Time{}))
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort(append([]byte(unmapped(from).String()+" "), b[:n]...), from)
		}
	}()
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// udpPeer returns a UDP socket of a peer that is connected to a port of M1.
func udpPeer(t *testing.T, p peer, port uint16) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	nstest.Must(t, p.Do(func() (err error) {
		c, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(p.at(port)))
		return err
	}))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// wantFlow sends a datagram, and wants the service to have seen the peer's own address.
func wantFlow(t *testing.T, c *net.UDPConn, payload string) {
	t.Helper()
	if err := request(c, payload, patience); err != nil {
		t.Errorf("%.40q: %v", payload, err)
	}
}

// request sends a datagram and waits for its answer. Answers to others may come before.
func request(c *net.UDPConn, payload string, patience time.Duration) error {
	if _, err := c.Write([]byte(payload)); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	own := fmt.Sprint(c.LocalAddr(), " ")
	b := make([]byte, 1<<16)
	for {
		n, err := c.Read(b)
		if err != nil {
			return err
		}
		switch got := string(b[:n]); {
		case got == own+payload:
			return nil
		case !strings.HasPrefix(got, own):
			return fmt.Errorf("the answer is %.80q, want %.80q", got, own+payload)
		}
	}
}

// receive waits for a datagram.
func receive(t *testing.T, c *net.UDPConn) string {
	t.Helper()
	nstest.Must(t, c.SetReadDeadline(time.Now().Add(patience)))
	b := make([]byte, 1<<16)
	n, err := c.Read(b)
	nstest.Must(t, err)
	return string(b[:n])
}

// TestDatagrams sends datagrams of all sizes from peers of both families to services of every kind.
func TestDatagrams(t *testing.T) {
	w := newWorld(t)
	for _, at := range []string{"127.0.0.1:53", "[::1]:53", "0.0.0.0:5353", "10.0.0.2:54", "[fd00:10::2]:54"} {
		udpReport(t, w.m2, at)
	}
	udpReport(t, w.guest, "172.30.0.2:55")
	udpReport(t, w.guest, "[fd00:30::2]:55")
	w.server(t, "-p 53/udp -p 531=127.0.0.1:5353/udp -p 54=10.0.0.2:54/udp -p 55=172.30.0.2:55/udp -p 56=[fd00:30::2]:55/udp -p 57-58=[fd00:10::2]:53-54/udp")
	w.client(t, "-p 53-58/udp -p 531/udp")
	wantFlowSoon(t, udpPeer(t, w.alice, 53), "is a server in use?")
	for _, tt := range []struct {
		port  uint16
		peers string
	}{{53, "alice bob carol"}, {531, "alice"}, {54, "bob"}, {55, "alice"}, {56, "carol"}, {58, "carol"}} {
		for _, p := range w.peers(tt.peers) {
			c := udpPeer(t, p, tt.port)
			for _, size := range []int{0, 1, 1200, 1472, 9000, 60000} {
				wantFlow(t, c, strings.Repeat("x", size))
			}
		}
	}
}

// TestDatagramsOverReload reloads both ends while a flow goes on, and while a service sends without being asked again. No datagram is
// lost, and the service sees one peer.
func TestDatagramsOverReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	udpReport(t, w.m2, "127.0.0.1:53")
	stream := udpSocket(t, w.m2, "127.0.0.1:54")
	server := supervise(t, w.m2, section("server.home", "-l :"+linkPort+" -p 53-54/udp"))
	client := supervise(t, w.m1, section("client.edge", "-c "+linkTo+" -p 53-54/udp"))
	c, listener := udpPeer(t, w.alice, 53), udpPeer(t, w.bob, 54)
	wantFlowSoon(t, c, "before")
	peer := reach(t, listener, stream)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
				wantFlow(t, c, fmt.Sprint(n))
			}
		}
	}()
	for n := range 2 {
		for _, of := range []*supervised{server, client} {
			of.wantReload(t)
			said := fmt.Sprint("news ", n)
			_, err := stream.WriteToUDPAddrPort([]byte(said), peer)
			nstest.Must(t, err)
			if got := receive(t, listener); got != said {
				t.Errorf("the peer got %q, want %q", got, said)
			}
		}
	}
	close(stop)
	<-stopped
	if again := reach(t, listener, stream); again != peer {
		t.Errorf("the service sees %v, want %v", again, peer)
	}
}

// say sends a datagram.
func say(t *testing.T, c *net.UDPConn, payload string) {
	t.Helper()
	_, err := c.Write([]byte(payload))
	nstest.Must(t, err)
}
