package client_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"portredirector/internal/ban"
	"portredirector/internal/ports"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/track"
	"portredirector/internal/wire"
)

// TestBan has a server ban a peer. The client refuses later connections of the peer by itself, for
// all servers. It asks again when the time is over or the ban is forgotten.
func TestBan(t *testing.T) {
	t.Parallel()
	r := newRigOf(t, wire.Native, 2)
	r.client.Bans = new(ban.List)
	peer := r.visit(t)
	link, _ := r.link(t)
	nstest.Must(t, link.SendBan(wire.Ban{Left: wire.MaxBan, Bits: 32}))
	wantReset(t, peer)
	for range 3 {
		wantReset(t, r.visit(t))
	}
	wantNoLink(t, r.server)
	wantNoLink(t, r.other)
	if log := r.log.String(); strings.Contains(log, "WARN") {
		t.Errorf("the log speaks of banned peers: %s", log)
	}
	port := netip.MustParseAddrPort(r.peers.Addr().String()).Port()
	ends := r.client.Track.Totals()[ports.Port{Number: port}].Ends
	if asked, refused := ends[track.Code{Who: track.Banned, Phase: track.Connect}], ends[track.Code{Who: track.Banned, Phase: track.Queue}]; asked != 1 || refused != 3 {
		t.Errorf("the ends are %v, want BC once and BQ three times", ends)
	}

	if n := r.client.Bans.Forget(netip.MustParsePrefix("127.0.0.1/32")); n != 1 {
		t.Errorf("%d bans are forgotten, want one", n)
	}
	peer = r.visit(t)
	link, _ = r.link(t)
	nstest.Must(t, link.SendBan(wire.Ban{Left: time.Second, Bits: 32}))
	wantReset(t, peer)
	nstest.WaitFor(t, "the end of the ban", func() bool {
		_, banned := r.client.Bans.Banned(netip.MustParseAddr("127.0.0.1"))
		return !banned
	})
	peer = r.visit(t)
	link, _ = r.link(t)
	answer(t, link, wire.Connected, "welcome")
	read(t, peer, "welcome")

	r.client.Bans.OnBan(r.client.CutBanned)
	r.client.Bans.Apply(ban.Change{Add: []ban.Ban{{Prefix: netip.MustParsePrefix("127.0.0.0/8"), From: ban.FromCommand}}})
	wantReset(t, peer)
}
