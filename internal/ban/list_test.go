package ban

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"portredirector/internal/wire"
)

// lasting returns a ban of a prefix that ends after some time, or never.
func lasting(prefix string, d time.Duration) Ban {
	b := Ban{Prefix: netip.MustParsePrefix(prefix), From: FromCommand}
	if d != 0 {
		b.Until = time.Now().Add(d)
	}
	return b
}

// TestBanned looks up addresses in bans of several lengths, live and expired.
func TestBanned(t *testing.T) {
	t.Parallel()
	var l List
	l.Apply(Change{Add: []Ban{
		lasting("203.0.113.7/32", -time.Second), lasting("203.0.113.0/24", time.Hour), lasting("198.51.100.7/32", 0),
		lasting("192.0.2.1/32", -time.Second), lasting("2001:db8:1::/48", time.Hour),
	}})
	for address, want := range map[string]string{
		"203.0.113.7":        "203.0.113.0/24", // its own ban has expired
		"203.0.113.8":        "203.0.113.0/24",
		"::ffff:203.0.113.8": "203.0.113.0/24",
		"198.51.100.7":       "198.51.100.7/32",
		"198.51.100.8":       "",
		"192.0.2.1":          "",
		"2001:db8:1::9":      "2001:db8:1::/48",
		"2001:db8:2::9":      "",
		"fe80::1%eth0":       "",
	} {
		b, banned := l.Banned(netip.MustParseAddr(address))
		if got := b.Prefix.String(); banned != (want != "") || banned && got != want {
			t.Errorf("%s: banned by %v, want %q", address, b, want)
		}
	}
	if b, _ := l.Banned(netip.MustParseAddr("198.51.100.7")); b.Left() < 1000*time.Hour {
		t.Errorf("a ban for good lasts %v", b.Left())
	}
	if all := l.All(); len(all) != 3 {
		t.Errorf("%d bans are in force, want 3", len(all))
	}
	l.Apply(Change{Remove: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}})
	if _, banned := l.Banned(netip.MustParseAddr("203.0.113.8")); banned {
		t.Error("a lifted ban is in force")
	}
	if _, banned := (*List)(nil).Banned(netip.MustParseAddr("203.0.113.8")); banned {
		t.Error("nobody bans, and it is banned")
	}
}

// TestLearn checks what a client believes of a server's ban.
func TestLearn(t *testing.T) {
	t.Parallel()
	var l List
	for _, x := range []struct {
		peer string
		bits int
		want string
	}{
		{"203.0.113.7", 32, "203.0.113.7/32"},
		{"::ffff:203.0.113.9", 200, "203.0.113.9/32"},
		{"198.51.100.7", 0, "198.51.100.0/24"},
		{"2001:db8::7", 64, "2001:db8::/64"},
		{"2001:db9::7", 3, "2001:db9::/56"},
	} {
		l.Learn(netip.MustParseAddr(x.peer), wire.Ban{Left: time.Hour, Bits: x.bits})
		b, banned := l.Banned(netip.MustParseAddr(x.peer))
		if !banned || b.Prefix.String() != x.want || b.Left() > wire.MaxBan || b.From != FromServer {
			t.Errorf("%s, %d bits: %v, want %s for a minute", x.peer, x.bits, b, x.want)
		}
	}
	if n := len(l.All()); n != 0 {
		t.Errorf("%d bans are the client's own", n)
	}
	if n := l.Forget(netip.MustParsePrefix("203.0.113.0/24")); n != 2 || len(l.Learned()) != 3 {
		t.Errorf("%d bans are forgotten, %d are left", n, len(l.Learned()))
	}
	l.Learn(netip.MustParseAddr("203.0.113.7"), wire.Ban{})
	if _, banned := l.Banned(netip.MustParseAddr("203.0.113.7")); banned {
		t.Error("a ban of no time is in force")
	}
	l.Spare([]netip.Prefix{netip.MustParsePrefix("192.0.2.5/32")})
	l.Learn(netip.MustParseAddr("192.0.2.1"), wire.Ban{Left: time.Minute, Bits: 24})
	if _, banned := l.Banned(netip.MustParseAddr("192.0.2.1")); banned {
		t.Error("a server has banned what is never banned")
	}
}

// TestLearnIsBounded checks that a client's memory is bounded, and keeps the latest bans.
func TestLearnIsBounded(t *testing.T) {
	t.Parallel()
	var l List
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	const n = 2*mostLearned + mostLearned/2
	for i := range n {
		l.Learn(address(i), wire.Ban{Left: time.Minute, Bits: 32})
	}
	if _, learned := l.Len(); learned > 2*mostLearned {
		t.Errorf("%d bans are remembered, want at most %d", learned, 2*mostLearned)
	}
	for i := n - mostLearned; i < n; i++ {
		if _, banned := l.Banned(address(i)); !banned {
			t.Fatalf("of %d bans, number %d is forgotten", n, i)
		}
	}
}

// TestOnBan checks that a list tells of what Apply adds.
func TestOnBan(t *testing.T) {
	t.Parallel()
	var l List
	var told []string
	l.OnBan(func(p netip.Prefix) { told = append(told, p.String()) })
	l.Apply(Change{Add: []Ban{lasting("203.0.113.7/32", 0), lasting("2001:db8::/64", 0)}})
	l.Learn(netip.MustParseAddr("192.0.2.1"), wire.Ban{Left: time.Minute, Bits: 32})
	if want := []string{"203.0.113.7/32", "2001:db8::/64"}; !slices.Equal(told, want) {
		t.Errorf("told of %v, want %v", told, want)
	}
}

// BenchmarkBanned looks up addresses that are not banned, and one that is.
func BenchmarkBanned(b *testing.B) {
	for _, n := range []int{0, 1, 100_000} {
		var l List
		var c Change
		for i := range n {
			a := netip.AddrFrom4([4]byte{byte(1 + i%200), byte(i / 200 % 256), byte(i / 51200), byte(i)})
			c.Add = append(c.Add, Ban{Prefix: netip.PrefixFrom(a, 32)})
		}
		l.Apply(c)
		free, banned := netip.MustParseAddr("250.0.2.7"), netip.MustParseAddr("1.0.0.0")
		b.Run(fmt.Sprintf("free/bans=%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, is := l.Banned(free); is {
					b.Fatal("banned")
				}
			}
		})
		if n == 0 {
			continue
		}
		b.Run(fmt.Sprintf("banned/bans=%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, is := l.Banned(banned); !is {
					b.Fatal("not banned")
				}
			}
		})
	}
}
