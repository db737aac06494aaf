package relay_test

import (
	"context"
	"testing"

	"portredirector/internal/auth"
	"portredirector/internal/relay"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
)

// way connects the peer to the service: by one pair, or by two with an encrypted link
// between them.
type way bool

const (
	plain   way = false
	secured way = true
)

// bothWays runs a test on each way.
func bothWays(t *testing.T, test func(t *testing.T, w way)) {
	t.Helper()
	t.Run("plain", func(t *testing.T) { test(t, plain) })
	t.Run("secured", func(t *testing.T) { test(t, secured) })
}

// relay relays a pair that way. Its callbacks are those of its first half.
func (w way) relay(t testing.TB, e *relay.Engine, p relay.Pair) {
	t.Helper()
	if w == secured {
		near, far := securedLink(t)
		e.Relay(relay.Pair{Accepted: far.FD, AcceptedLayer: far.Conn, Dialed: p.Dialed})
		p.Dialed, p.DialedLayer = near.FD, near.Conn
	}
	e.Relay(p)
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
