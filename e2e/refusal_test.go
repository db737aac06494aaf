package e2e_test

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
)

// TestServiceRefuses has services at which nothing listens: the peer is reset, whether it sends something or not.
func TestServiceRefuses(t *testing.T) {
	for _, tt := range []struct{ service, peer string }{
		{"127.0.0.1:80", "alice"},
		{"[::1]:80", "carol"},
		{"192.0.2.2:80", "alice"},
		{"[2001:db8:2::2]:80", "carol"},
		{"172.30.0.2:80", "alice"},
		{"[fd00:30::2]:80", "carol"},
	} {
		t.Run(tt.service, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			server, client := w.server(t, "-p 80="+tt.service), w.client(t, "-p 80")
			p := w.peers(tt.peer)[0]
			from := w.wantRefused(t, p, 80)
			server.wantRefusal(t, from, "connection refused")
			client.wantRefusal(t, from, "server "+linkTo+": refused")

			sender, err := p.Dial(t.Context(), netip.AddrPort{}, p.at(80))
			if err == nil {
				_, err = io.Copy(struct{ io.Writer }{forTest(t, sender)}, random())
			}
			if !isReset(err) {
				t.Errorf("a peer that sends is told %v, want a reset", err)
			}
		})
	}
}

// TestServiceRefusesOthers is the same for clients that do not ask for an answer: the link is reset.
func TestServiceRefusesOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.server(t, "-p 80")
	for _, form := range []wire.Form{wire.V1, wire.V2, wire.Py} {
		link := dial(t, w.m1, addrPort(t, linkTo))
		introduce(t, link, w.alice, form)
		wantReset(t, link)
	}
}

// TestServerRefuses has peers whom the server cannot take to a service: they are reset, and both logs say why.
func TestServerRefuses(t *testing.T) {
	for _, tt := range []struct {
		name           string
		options        string // of the server
		peer           string
		server, client string // what they log
	}{
		{"no service on this port", "-p 81", "alice", "no service on this port", "no service"},
		{
			"no address of the peer's family", "-p 80=127.0.0.1:80", "carol",
			"the service has no address of the peer's family", "no service",
		},
		{"no answer from the service", "-p 80=172.30.0.99:80 --connect-timeout 200ms", "alice", "timeout", "unreachable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			listen(t, w.m2, "127.0.0.1:80")
			listen(t, w.m2, "[::1]:80")
			server, client := w.server(t, tt.options), w.client(t, "-p 80")
			from := w.wantRefused(t, w.peers(tt.peer)[0], 80)
			server.wantRefusal(t, from, tt.server)
			client.wantRefusal(t, from, "server "+linkTo+": "+tt.client)
		})
	}
}

// TestNoServer has nothing where the server should be.
func TestNoServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := w.client(t, "-p 80 --connect-timeout 1s")
	for _, p := range []peer{w.alice, w.carol} {
		client.wantRefusal(t, w.wantRefused(t, p, 80), linkTo+": connect: connection refused")
	}
}

// wantRefused lets a peer connect to a port of M1 from a port that it uses once, and fails the test unless the peer is reset.
func (w *world) wantRefused(t *testing.T, p peer, port uint16) (from netip.AddrPort) {
	t.Helper()
	w.refusals++
	from = netip.AddrPortFrom(p.addr, 20000+w.refusals)
	wantRefused(t, p, from, p.at(port))
	return from
}

// wantRefused fails the test unless a peer that connects is reset.
func wantRefused(t *testing.T, p peer, from, to netip.AddrPort) {
	t.Helper()
	c, err := dialFrom(p, from, to)
	if err == nil {
		wantReset(t, forTest(t, c))
	} else if !isReset(err) { // by a reset, if it came before connect(2) was done
		t.Fatal(err)
	}
}

// wantRefusal waits until the program logs that it refused a peer, and fails the test unless it says why.
func (d *daemon) wantRefusal(t *testing.T, from netip.AddrPort, why string) {
	t.Helper()
	line := d.WaitOutput(fmt.Sprintf(`msg="peer refused" peer=%v `, from))
	if !strings.Contains(line, "level=WARN") || !strings.Contains(line, why) {
		t.Errorf("logged %s; want a warning that says %q", line, why)
	}
}

// introduce sends the header of a peer of port 80 over a link.
func introduce(t *testing.T, link io.Writer, p peer, form wire.Form) {
	t.Helper()
	head, err := wire.Header{Source: netip.AddrPortFrom(p.addr, 20000), Destination: p.at(80)}.Append(nil, form)
	nstest.Must(t, err)
	_, err = link.Write(head)
	nstest.Must(t, err)
}
