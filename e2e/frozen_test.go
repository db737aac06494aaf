package e2e_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"portredirector/internal/testnet/nstest"
)

// freeze stops a program, which its kernel covers up, until thaw is called.
func (d *daemon) freeze(t *testing.T) (thaw func()) {
	t.Helper()
	d.Signal(syscall.SIGSTOP)
	thaw = func() { d.Signal(syscall.SIGCONT) }
	t.Cleanup(thaw)
	return thaw
}

// sessionAmong is newSession at a service that also gets what a server had before it was stopped.
func sessionAmong(t *testing.T, p peer, service *net.TCPListener) session {
	t.Helper()
	c := dial(t, p.Host, p.at(80))
	return session{c, acceptFrom(t, service, localAddr(c))}
}

// acceptFrom accepts the connection of one peer, and passes over others.
func acceptFrom(t *testing.T, service *net.TCPListener, from netip.AddrPort) *net.TCPConn {
	t.Helper()
	for {
		if c := accept(t, service); remoteAddr(c) == from {
			return c
		}
	}
}

// TestServerIsFrozen stops the first of two servers. After a peer that is not answered the second serves, and the first again
// when it goes on; whatever the links are, and whoever opens them.
func TestServerIsFrozen(t *testing.T) {
	for name, keys := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := keys(t)
			w := newWorld(t)
			service := listen(t, w.m2, "127.0.0.1:80")
			first := w.server(t, "-p 80 "+k.server)
			start(t, w.m2, "server", "-l 12346 -p 80 "+k.server)
			client := w.client(t, "-c "+secondLinkTo+" -p 80 "+k.client)
			newSession(t, w.alice, 80, service).talk(t)
			thaw := first.freeze(t)
			lost := dial(t, w.alice.Host, w.alice.at(80))
			_, err := fmt.Fprint(lost, "hello")
			nstest.Must(t, err)
			client.WaitOutput("leaving it out")
			for range 3 {
				sessionAmong(t, w.alice, service).talk(t)
			}
			nstest.Must(t, lost.SetLinger(0))
			nstest.Must(t, lost.Close())
			nstest.WaitFor(t, "end of the peer that is lost", func() bool { return strings.Contains(client.Output(), "peer gone") })
			thaw()
			client.WaitOutput("server is back")
			before := strings.Count(client.Output(), "server="+linkTo+" link=")
			nstest.WaitFor(t, "peer of the first server when it goes on", func() bool {
				sessionAmong(t, w.alice, service).talk(t)
				return strings.Count(client.Output(), "server="+linkTo+" link=") > before
			})
		})
	}
}

// TestServerThatDialsIsFrozen does so with servers that dial the client.
func TestServerThatDialsIsFrozen(t *testing.T) {
	t.Parallel()
	c, _ := newNATChain(t, newKeys(t), "")
	c.connect(t).talk(t)
	thaw := c.server.freeze(t)
	lost := dial(t, c.alice.Host, c.alice.at(80))
	_, err := fmt.Fprint(lost, "hello")
	nstest.Must(t, err)
	c.client.WaitOutput("opens no links, leaving it out")
	nstest.Must(t, lost.SetLinger(0))
	nstest.Must(t, lost.Close())
	waitHealth(t, c.m1, "opens no link")
	thaw()
	waitHealth(t, c.m1, "")
	sessionAmong(t, c.alice, c.service).talk(t)
}

// TestOnlyServerIsFrozen wants health to tell it, also without peers, and the server to be back when it goes on.
func TestOnlyServerIsFrozen(t *testing.T) {
	t.Parallel()
	c := newChain(t, loopback80)
	waitHealth(t, c.m1, "")
	thaw := c.server.freeze(t)
	waitHealth(t, c.m1, "does not answer")
	early := dial(t, c.alice.Host, c.alice.at(80))
	thaw()
	waitHealth(t, c.m1, "")
	session{early, acceptFrom(t, c.service, localAddr(early))}.talk(t)
}
