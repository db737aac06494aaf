package upstream_test

import (
	"errors"
	"net/netip"
	"testing"

	"portredirector/internal/upstream"
)

// TestServerIsThisClient leaves out a server at whose address a peer has come to the client.
func TestServerIsThisClient(t *testing.T) {
	self, other := serve(t, "127.0.0.1:0"), serve(t, "127.0.0.1:0")
	ss := newServers(t, upstream.Config{Servers: []string{self.addr()}, PoolMin: 2, PoolMax: 2})
	if ss.IsSelf(netip.MustParseAddrPort(other.addr())) {
		t.Error("the address of no server is that of one")
	}
	if _, ok := take(t, ss, new(upstream.Tried)); !ok {
		t.Fatal("no link before it is known")
	}
	if !ss.IsSelf(netip.MustParseAddrPort(self.addr())) {
		t.Fatal("the address of the server is not known")
	}
	if err := ss.Unhealthy(); !errors.Is(err, upstream.ErrSelf) {
		t.Errorf("it is healthy: %v", err)
	}
}
