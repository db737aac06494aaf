package relay_test

import (
	"context"
	"net"
	"testing"

	"portredirector/internal/auth"
	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
	"portredirector/internal/wire/wiretest"
)

// way is the way of a peer to its service.
type way string

const (
	plain   way = "plain"   // one pair
	linked  way = "linked"  // two pairs, with a link between them
	secured way = "secured" // the same, and the link is encrypted
)

// eachWay runs a test on each way.
func eachWay(t *testing.T, test func(t *testing.T, w way)) {
	t.Helper()
	for _, w := range []way{plain, linked, secured} {
		t.Run(string(w), func(t *testing.T) { test(t, w) })
	}
}

// eachLink runs a test on each kind of link.
func eachLink(t *testing.T, test func(t *testing.T, w way)) {
	t.Helper()
	for _, w := range []way{linked, secured} {
		t.Run(string(w), func(t *testing.T) { test(t, w) })
	}
}

// relay relays a pair that way. Its callbacks are those of its first half.
func (w way) relay(t testing.TB, e *relay.Engine, p relay.Pair) {
	t.Helper()
	if w == plain {
		e.Relay(p)
		return
	}
	near, far := w.link(t)
	e.Relay(relay.Pair{
		Accepted: far.fd, AcceptedLayer: far.layer, Dialed: p.Dialed, Framed: relay.AcceptedLink,
		DownPrefix: wire.AppendFrame(nil, wire.KindStatus, byte(wire.Connected)), OnFree: closeLink,
	})
	p.Dialed, p.DialedLayer, p.Framed = near.fd, near.layer, relay.DialedLink
	p.OnStatus, p.OnFree = func(wire.Status, wire.Ban) error { return nil }, closeLink
	e.Relay(p)
}

// closeLink is an OnFree for links that carry one peer.
func closeLink(link int, _ []byte) {
	if link >= 0 {
		socket.Close(link)
	}
}

// linkEnd is an end of a link.
type linkEnd struct {
	fd    int
	layer relay.Layer
}

// link returns both ends of a link.
func (w way) link(t testing.TB) (client, server linkEnd) {
	t.Helper()
	if w == secured {
		c, s := securedLink(t)
		return linkEnd{c.FD, c.Conn}, linkEnd{s.FD, s.Conn}
	}
	d, a := tcpPair(t)
	return linkEnd{fd: detach(t, d)}, linkEnd{fd: detach(t, a)}
}

// farLink is the far end of a link, which a test plays.
type farLink struct {
	*wiretest.End

	Conn *net.TCPConn // the link itself
}

// farLink returns a link and its far end, which a test plays. If answer is true the far end
// plays a client.
func (w way) farLink(t testing.TB, e *relay.Engine, answer bool) (linkEnd, *farLink) {
	t.Helper()
	c, near := tcpPair(t)
	t.Cleanup(func() { _ = c.Close() })
	far := &farLink{End: wiretest.Server(c), Conn: c}
	if answer {
		far.End = wiretest.Client(c)
	}
	if w != secured {
		return linkEnd{fd: detach(t, near)}, far
	}
	// A pair without frames encrypts for the test.
	client, server := w.link(t)
	if answer {
		e.Relay(relay.Pair{Accepted: detach(t, near), Dialed: client.fd, DialedLayer: client.layer})
		return server, far
	}
	e.Relay(relay.Pair{Accepted: server.fd, AcceptedLayer: server.layer, Dialed: detach(t, near)})
	return client, far
}

// securedLink returns both ends of an encrypted link.
func securedLink(t testing.TB) (client, server *auth.Session) {
	t.Helper()
	mine, theirs := auth.NewKey(), auth.NewKey()
	dialer, err := auth.DialWithKey(mine, []auth.PublicKey{theirs.Public()}, false)
	nstest.Must(t, err)
	acceptor, err := auth.AcceptWithKey(theirs, false)
	nstest.Must(t, err)
	d, a := tcpPair(t)
	opened := make(chan error)
	go func() {
		var err error
		client, err = dialer.Open(context.Background(), detach(t, d), "", auth.ToServer)
		opened <- err
	}()
	server, err = acceptor.Accept(context.Background(), detach(t, a), nil, func(auth.Identity) (wire.Status, error) { return wire.Connected, nil })
	nstest.Must(t, err)
	nstest.Must(t, <-opened)
	return client, server
}
