package load

import (
	"net/netip"
	"testing"
)

func TestPeerAddr(t *testing.T) {
	for n, want := range map[uint32]string{
		0:     "10.64.0.1",
		254:   "10.64.0.255",
		65533: "10.64.255.254",
		65534: "10.64.0.1",
	} {
		if got := peerAddr(n); got != netip.MustParseAddr(want) {
			t.Errorf("peer %d has %v, want %s", n, got, want)
		}
	}
}
