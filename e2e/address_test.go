package e2e_test

import (
	"strings"
	"testing"

	"portredirector/internal/testnet/nstest"
)

// TestAddressChanges gives the client's machine another address and takes the old one away, as DHCP and VPNs do. No peer gets
// a link that was opened ahead from there.
func TestAddressChanges(t *testing.T) {
	t.Parallel()
	c := chain{world: newWorld(t)}
	c.service = listen(t, c.m2, loopback80)
	c.server = c.world.server(t, "-p 80")
	c.client = c.world.client(t, "-p 80 --pool-min 8")
	early := c.connect(t)
	early.talk(t)
	links := func(addr string) int {
		return strings.Count(nstest.Run(t, c.m1, "ss", "-Htn", "state", "established", "src", addr, "dport", "=", ":12345"), "\n")
	}
	nstest.WaitFor(t, "pool", func() bool { return links("10.0.0.1") >= 8 })
	change := func(from, to string) {
		nstest.Run(t, c.m1, "ip", "addr", "del", from, "dev", "m2")
		nstest.Run(t, c.m1, "ip", "addr", "add", to, "dev", "m2")
	}
	change("10.0.0.1/24", "10.0.0.3/24")
	t.Cleanup(func() { change("10.0.0.3/24", "10.0.0.1/24") })
	nstest.Must(t, early.peer.SetLinger(0), early.peer.Close()) // it cannot live on
	c.client.WaitOutput("closing the idle links from there")
	nstest.WaitFor(t, "pool from the other address", func() bool { return links("10.0.0.3") >= 8 && links("10.0.0.1") == 0 })
	for range 10 {
		c.connect(t).talk(t)
	}
}

// TestClientOfItself has the client's own address for a server, beside a right one: it is left out, and costs no descriptors.
func TestClientOfItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := listen(t, w.m2, "127.0.0.1:80")
	w.server(t, "-p 80")
	client := start(t, w.m1, "client", "-c 10.0.0.1:80 -c "+linkTo+" -p 80")
	client.WaitOutput("server is this client, leaving it out")
	for range 3 {
		newSession(t, w.alice, 80, service).talk(t)
	}
	if n := descriptors(t, client); n > 100 {
		t.Errorf("the client has %d descriptors", n)
	}
}

// TestClientsInALoop has two clients that are each other's server. Neither uses up its descriptors.
func TestClientsInALoop(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	loop := []*daemon{start(t, w.m1, "client", "-c 10.0.0.2:80 -p 80"), start(t, w.m2, "client", "-c 10.0.0.1:80 -p 80")}
	visitor := dial(t, w.alice.Host, w.alice.at(80))
	defer visitor.Close()
	for _, d := range loop {
		d.WaitOutput("leaving it out")
		if n := descriptors(t, d); n > 400 {
			t.Errorf("a client has %d descriptors", n)
		}
	}
}
