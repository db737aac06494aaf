package claim_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"portredirector/internal/claim"
	"portredirector/internal/testnet/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// prefixes reads prefixes as the command line has them, blanks between.
func prefixes(tb testing.TB, s string) []netip.Prefix {
	tb.Helper()
	var all []netip.Prefix
	for f := range strings.FieldsSeq(s) {
		p, err := claim.ParsePrefix(f)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// machine has two addresses, one network and its broadcast address.
func machine(tb testing.TB) *claim.Own {
	return claim.OwnOf(prefixes(tb, "10.0.0.2 2001:db8::2 fe80::2 192.0.2.0/24 192.0.2.128/25 127.0.0.1 127.0.0.0/8 ::1"),
		netip.MustParseAddr("10.0.0.255"))
}

func TestBuiltIn(t *testing.T) {
	const ok = ""
	for _, tt := range []struct{ claim, want string }{
		{"203.0.113.9", ok},
		{"10.0.0.3", ok},
		{"100.64.0.1", ok},
		{"240.0.0.1", ok},
		{"1.0.0.0", ok},
		{"126.255.255.255", ok},
		{"128.0.0.0", ok},
		{"223.255.255.255", ok},
		{"255.255.255.254", ok},
		{"0.0.0.0", "0.0.0.0 is unspecified; no connection can come from it"},
		{"0.0.0.1", "0.0.0.1 is an address of \"this network\": it needs permission for 0.0.0.0/8"},
		{"127.0.0.1", "127.0.0.1 is loopback: it needs permission for 127.0.0.0/8"},
		{"127.255.255.255", "127.255.255.255 is loopback: it needs permission for 127.0.0.0/8"},
		{"169.254.169.254", "169.254.169.254 is link-local: it needs permission for 169.254.0.0/16"},
		{"224.0.0.1", "224.0.0.1 is multicast; no connection can come from it"},
		{"239.255.255.255", "239.255.255.255 is multicast; no connection can come from it"},
		{"255.255.255.255", "255.255.255.255 is the broadcast address; no connection can come from it"},

		{"2001:db8::1", ok},
		{"fd00::1", ok},
		{"fec0::1", ok},
		{"::1:0:0", ok},
		{"::", ":: is unspecified; no connection can come from it"},
		{"::1", "::1 is loopback: it needs permission for ::1/128"},
		{"::2", "::2 is an IPv4-compatible address: it needs permission for ::/96"},
		{"::7f00:1", "::7f00:1 is an IPv4-compatible address: it needs permission for ::/96"},
		{"fe80::1", "fe80::1 is link-local: it needs permission for fe80::/10"},
		{"febf::1%eth0", "febf::1 is link-local: it needs permission for fe80::/10"},
		{"ff02::1", "ff02::1 is multicast; no connection can come from it"},

		{"::ffff:203.0.113.9", ok},
		{"::ffff:127.0.0.1", "127.0.0.1 is loopback: it needs permission for 127.0.0.0/8"},
		{"::ffff:0.0.0.0", "0.0.0.0 is unspecified; no connection can come from it"},
		{"::ffff:10.0.0.2", "10.0.0.2 is an address of this machine: it needs permission for 10.0.0.2/32"},

		{"64:ff9b::203.0.113.9", ok},
		{"64:ff9b::127.0.0.1", "64:ff9b::7f00:1 is the NAT64 form of what is loopback: it needs permission for 64:ff9b::7f00:0/104"},
		{"64:ff9b::169.254.1.1", "64:ff9b::a9fe:101 is the NAT64 form of what is link-local: it needs permission for 64:ff9b::a9fe:0/112"},
		{"2002:cb00:7109::1", ok},
		{"2002:7f00:1::1", "2002:7f00:1::1 is the 6to4 form of what is loopback: it needs permission for 2002:7f00::/24"},
		{"2002:e000:1::1", "2002:e000:1::1 is the 6to4 form of what is multicast: it needs permission for 2002:e000::/20"},

		{"10.0.0.2", "10.0.0.2 is an address of this machine: it needs permission for 10.0.0.2/32"},
		{"2001:db8::2", "2001:db8::2 is an address of this machine: it needs permission for 2001:db8::2/128"},
		{"fe80::2", "fe80::2 is an address of this machine: it needs permission for fe80::2/128"},
		{"192.0.2.1", "192.0.2.1 is an address of this machine: it needs permission for 192.0.2.0/24"},
		{"192.0.2.129", "192.0.2.129 is an address of this machine: it needs permission for 192.0.2.128/25"},
		{"10.0.0.255", "10.0.0.255 is a broadcast address of this machine's networks; no connection can come from it"},
	} {
		check(t, claim.Policy{Own: machine(t)}, netip.MustParseAddr(tt.claim), tt.want)
	}
	check(t, claim.Policy{}, netip.Addr{}, "it is no address")
	check(t, claim.Policy{}, netip.MustParseAddr("10.0.0.2"), ok)
}

func check(t *testing.T, p claim.Policy, a netip.Addr, want string) {
	t.Helper()
	err := p.Check(a)
	if err != nil && !errors.Is(err, claim.ErrDenied) {
		t.Errorf("%v: %v is not ErrDenied", a, err)
	}
	got := ""
	if err != nil {
		got = err.Error()
	}
	if got != want {
		t.Errorf("%v: got %q, want %q", a, got, want)
	}
}

func TestContest(t *testing.T) {
	for _, tt := range []struct {
		name, allow, deny string
		yes, no           string
	}{
		{
			name: "deny", deny: "203.0.113.0/24 2001:db8:1::/48",
			yes: "203.0.112.255 2001:db8:2::", no: "203.0.113.9 2001:db8:1::1 ::ffff:203.0.113.9",
		},
		{
			name: "allow loopback", allow: "127.0.0.0/8",
			yes: "127.0.0.1 ::ffff:127.0.0.1", no: "::1 10.0.0.2 64:ff9b::127.0.0.1",
		},
		{name: "allow part of loopback", allow: "127.0.0.1", yes: "127.0.0.1", no: "127.0.0.2"},
		{name: "allow loopback 6", allow: "::1", yes: "::1", no: ":: ::2 127.0.0.1"},
		{
			name: "allow all", allow: "0.0.0.0/0 ::/0",
			yes: "203.0.113.9", no: "127.0.0.1 10.0.0.2 192.0.2.1 169.254.0.1 ::1 ::2 fe80::1 2001:db8::2 2002:7f00::",
		},
		{name: "allow all but with a longer prefix", allow: "126.0.0.0/7", no: "127.0.0.1"},
		{name: "allow an own address", allow: "10.0.0.2", yes: "10.0.0.2"},
		{name: "allow the network of an own address", allow: "10.0.0.0/24", no: "10.0.0.2"},
		{name: "allow an own network", allow: "192.0.2.0/24", yes: "192.0.2.1", no: "192.0.2.129"},
		{name: "allow more than an own network", allow: "192.0.0.0/16", no: "192.0.2.1"},
		{name: "an own address is no less so among the link-local", allow: "fe80::/10", yes: "fe80::1", no: "fe80::2"},
		{
			name: "whitelist", deny: "0.0.0.0/0 ::/0", allow: "203.0.113.0/24",
			yes: "203.0.113.9 ::ffff:203.0.113.9", no: "203.0.114.1 2001:db8::1 10.0.0.2",
		},
		{
			name: "deny within allow within deny", deny: "10.0.0.0/8 10.1.1.1", allow: "10.1.0.0/16",
			yes: "10.1.1.2", no: "10.2.0.0 10.1.1.1",
		},
		{name: "deny wins the tie", deny: "10.1.0.0/16", allow: "10.1.0.0/16", no: "10.1.0.1"},
		{name: "deny wins the tie with a built-in", deny: "127.0.0.0/8", allow: "127.0.0.0/8", no: "127.0.0.1"},
		{name: "a later longer one", deny: "10.0.0.0/8 10.1.1.0/24", allow: "10.1.0.0/16 0.0.0.0/0", yes: "10.1.0.1 11.0.0.1", no: "10.1.1.1"},
		{name: "an earlier longer one", deny: "10.1.1.0/24 10.0.0.0/8", allow: "0.0.0.0/0 10.1.0.0/16", yes: "10.1.0.1 11.0.0.1", no: "10.1.1.1"},
		{
			name: "what can never be", allow: "0.0.0.0 224.0.0.0/4 224.0.0.1 255.255.255.255 10.0.0.255 :: ff00::/8 ff02::1",
			no: "0.0.0.0 224.0.0.1 255.255.255.255 10.0.0.255 :: ff02::1 ::ffff:0.0.0.0 ::ffff:224.0.0.1",
		},
		{name: "mapped", deny: "::ffff:203.0.113.0/120", allow: "::ffff:127.0.0.1", yes: "127.0.0.1", no: "203.0.113.9"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := claim.Policy{Allow: prefixes(t, tt.allow), Deny: prefixes(t, tt.deny), Own: machine(t)}
			for a := range strings.FieldsSeq(tt.yes) {
				check(t, p, netip.MustParseAddr(a), "")
			}
			for a := range strings.FieldsSeq(tt.no) {
				if err := p.Check(netip.MustParseAddr(a)); !errors.Is(err, claim.ErrDenied) {
					t.Errorf("%s: %v, want it denied", a, err)
				}
			}
		})
	}
}

// TestDenyTells: the administrator must find the option that is the cause.
func TestDenyTells(t *testing.T) {
	p := claim.Policy{Deny: prefixes(t, "203.0.113.9/24 127.0.0.0/8 10.0.0.2"), Own: machine(t)}
	check(t, p, netip.MustParseAddr("203.0.113.9"), "203.0.113.9 is in 203.0.113.0/24, which is denied")
	check(t, p, netip.MustParseAddr("127.0.0.1"), "127.0.0.1 is in 127.0.0.0/8, which is denied")
	check(t, p, netip.MustParseAddr("10.0.0.2"), "10.0.0.2 is in 10.0.0.2/32, which is denied")
	check(t, p, netip.MustParseAddr("::1"), "::1 is loopback: it needs permission for ::1/128")
	p.Deny = prefixes(t, "0.0.0.0/0")
	check(t, p, netip.MustParseAddr("127.0.0.1"), "127.0.0.1 is loopback: it needs permission for 127.0.0.0/8")
}

// TestOwnIsWide: a machine that everything is local to still tells loopback
// from the rest.
func TestOwnIsWide(t *testing.T) {
	p := claim.Policy{Own: claim.OwnOf(prefixes(t, "0.0.0.0/0 126.0.0.0/7"))}
	check(t, p, netip.MustParseAddr("127.0.0.1"), "127.0.0.1 is loopback: it needs permission for 127.0.0.0/8")
	check(t, p, netip.MustParseAddr("126.0.0.1"), "126.0.0.1 is an address of this machine: it needs permission for 126.0.0.0/7")
	check(t, p, netip.MustParseAddr("8.8.8.8"), "8.8.8.8 is an address of this machine: it needs permission for 0.0.0.0/0")
}

// TestNeverIsNever: a route cannot make a peer of what is none.
func TestNeverIsNever(t *testing.T) {
	p := claim.Policy{Allow: prefixes(t, "224.1.0.0/16"), Own: claim.OwnOf(prefixes(t, "224.1.0.0/16"))}
	check(t, p, netip.MustParseAddr("224.1.0.1"), "224.1.0.1 is multicast; no connection can come from it")
}

func TestCheckDoesNotAllocate(t *testing.T) {
	p := claim.Policy{Allow: prefixes(t, "10.0.0.0/8"), Deny: prefixes(t, "10.1.0.0/16"), Own: machine(t)}
	for _, a := range []string{"10.2.3.4", "2001:db8::9", "::ffff:203.0.113.9"} {
		a := netip.MustParseAddr(a)
		if n := testing.AllocsPerRun(100, func() { _ = p.Check(a) }); n != 0 {
			t.Errorf("%v: %v allocations", a, n)
		}
	}
}

// FuzzCheck checks what holds for every address and every two options: the
// mend that a denial names is one, deny has the last word, and an IPv4-mapped
// address is the IPv4 one.
func FuzzCheck(f *testing.F) {
	f.Add([]byte{127, 0, 0, 1}, "127.0.0.0/8", "127.0.0.1")
	f.Add([]byte{10, 0, 0, 2}, "0.0.0.0/0", "10.0.0.0/8")
	f.Add(netip.MustParseAddr("fe80::2").AsSlice(), "fe80::/10", "::/0")
	f.Add(netip.MustParseAddr("64:ff9b::127.0.0.1").AsSlice(), "::/0", "64:ff9b::/96")
	own := machine(f)
	f.Fuzz(func(t *testing.T, ip []byte, allow, deny string) {
		a, ok := netip.AddrFromSlice(ip)
		if !ok {
			return
		}
		p := claim.Policy{Own: own}
		if prefix, err := claim.ParsePrefix(allow); err == nil {
			p.Allow = []netip.Prefix{prefix}
		}
		if prefix, err := claim.ParsePrefix(deny); err == nil {
			p.Deny = []netip.Prefix{prefix}
		}
		err := p.Check(a)
		if a.Is4() {
			mapped := netip.AddrFrom16(a.As16())
			if other := p.Check(mapped); (other == nil) != (err == nil) {
				t.Errorf("%v: %v, but %v: %v", a, err, mapped, other)
			}
		}
		if err != nil {
			if _, mend, ok := strings.Cut(err.Error(), "it needs permission for "); ok {
				mended := p
				mended.Allow = append(prefixes(t, mend), p.Allow...)
				if again := mended.Check(a); again != nil {
					t.Errorf("%v after the mend: %v", err, again)
				}
			}
		}
		p.Deny = append(p.Deny, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
		if p.Check(a) == nil {
			t.Errorf("%v is denied by itself and may be claimed", a)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	p := claim.Policy{
		Allow: prefixes(b, "127.0.0.0/8 ::1"),
		Deny:  prefixes(b, "198.51.100.0/24 2001:db8:1::/48"),
		Own:   machine(b),
	}
	for _, bb := range []struct{ name, claim string }{
		{"IPv4", "203.0.113.9"}, {"IPv6", "2001:db8::9"}, {"NAT64", "64:ff9b::203.0.113.9"}, {"own", "10.0.0.2"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			a := netip.MustParseAddr(bb.claim)
			b.ReportAllocs()
			for b.Loop() {
				_ = p.Check(a)
			}
		})
	}
}
