package server_test

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net/netip"
	"testing"
	"time"

	"portredirector/internal/ban"
	"portredirector/internal/ports"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/track"
	"portredirector/internal/wire"
	"portredirector/internal/wire/wiretest"
)

// bans gives the rig's server a list of bans.
func (r *rig) bans() *ban.List {
	r.server.Bans = new(ban.List)
	r.server.Bans.OnBan(r.server.CutBanned)
	return r.server.Bans
}

// banned returns a change that bans a prefix.
func banned(prefix string, d time.Duration) ban.Change {
	b := ban.Ban{Prefix: netip.MustParsePrefix(prefix), From: ban.FromCommand}
	if d != 0 {
		b.Until = time.Now().Add(d)
	}
	return ban.Change{Add: []ban.Ban{b}}
}

// TestBan bans a live peer: it is cut, and refused later, over the same link. Others are not.
func TestBan(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	bans := r.bans()
	link, other := r.connect(t), r.connect(t)
	say(t, link, wire.Header{Source: claim, Destination: netip.MustParseAddrPort("127.0.0.1:80")}, "hello")
	wantEcho(t, link, "hello")
	neighbor := netip.AddrPortFrom(claim.Addr().Next(), 4445)
	say(t, other, wire.Header{Source: neighbor, Destination: netip.MustParseAddrPort("127.0.0.1:80")}, "hello")
	wantEcho(t, other, "hello")

	bans.Apply(banned("127.0.0.77/32", 10*time.Minute))
	if _, err := io.ReadAll(link); !errors.Is(err, wiretest.ErrReset) {
		t.Errorf("the live peer ended with %v, want a reset frame", err)
	}
	nstest.Must(t, link.Reset())
	for range 2 {
		say(t, link, wire.Header{Source: claim, Destination: netip.MustParseAddrPort("127.0.0.1:80")}, "again")
		wantStatus(t, link, wire.Banned)
		if got, want := link.Ban(), (wire.Ban{Left: wire.MaxBan, Bits: 32}); got != want {
			t.Errorf("the ban is %+v, want %+v", got, want)
		}
		nstest.Must(t, link.Reset())
	}
	if _, err := io.WriteString(other, "x"); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(other, make([]byte, 1)); err != nil {
		t.Errorf("another peer was ended: %v", err)
	}
	ends := r.server.Track.Totals()[ports.Port{Number: 80}].Ends
	for _, phase := range []track.Phase{track.Data, track.Queue} {
		if ends[track.Code{Who: track.Banned, Phase: phase}] == 0 {
			t.Errorf("the ends are %v, want B%c", ends, phase)
		}
	}
	if n := r.server.Refused().Ban; n != 2 {
		t.Errorf("%d were refused by a ban, want 2", n)
	}

	bans.Apply(ban.Change{Remove: []netip.Prefix{netip.MustParsePrefix("127.0.0.77/32")}})
	say(t, link, wire.Header{Source: claim, Destination: netip.MustParseAddrPort("127.0.0.1:80")}, "free")
	wantEcho(t, link, "free")
}

// TestBanLeft checks that the answer tells for how long the ban is sure to last.
func TestBanLeft(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.bans().Apply(banned("127.0.0.0/8", 5*time.Second))
	link := r.connect(t)
	say(t, link, wire.Header{Source: claim, Destination: netip.MustParseAddrPort("127.0.0.1:80")}, "")
	wantStatus(t, link, wire.Banned)
	if b := link.Ban(); b.Left > 5*time.Second || b.Left < time.Second || b.Bits != 8 {
		t.Errorf("the ban is %+v, want 5 s and /8", b)
	}
}

// TestBanForOldClient checks that a client that does not know the status gets one that it knows.
func TestBanForOldClient(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.bans().Apply(banned("127.0.0.77/32", 0))
	link := r.connect(t)
	header, err := wire.Header{Source: claim, Destination: netip.MustParseAddrPort("127.0.0.1:80")}.Append(nil, wire.Native)
	nstest.Must(t, err)
	header = withoutBans(header)
	link.Begin()
	_, err = link.Conn.Write(header)
	nstest.Must(t, err)
	wantStatus(t, link, wire.ClaimDenied)
}

// withoutBans returns a header for TCP over IPv4 without its last TLV, E2, which has no value.
func withoutBans(header []byte) []byte {
	const checksum = 16 + 12 + 3
	header = header[:len(header)-3]
	header[15] -= 3
	clear(header[checksum : checksum+4])
	binary.BigEndian.PutUint32(header[checksum:], crc32.Checksum(header, crc32.MakeTable(crc32.Castagnoli)))
	return header
}
