package route_test

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/route"
)

func TestWayTo(t *testing.T) {
	tests := map[string]route.Way{
		"127.0.0.1":        route.LoopbackV4,
		"127.1.2.3":        route.LoopbackV4,
		"::ffff:127.0.0.1": route.LoopbackV4,
		"::1":              route.LoopbackV6,
		"172.17.0.2":       route.TrackedV4,
		"192.0.2.1":        route.TrackedV4,
		"2001:db8::1":      route.TrackedV6,
	}
	for addr, want := range tests {
		if got := route.WayTo(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

func TestParseMarks(t *testing.T) {
	got, err := route.ParseMarks(0x30000000)
	if want := (route.Marks{Route: 0x20000000, Track: 0x10000000}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if got, err = route.ParseMarks(0x80000001); err != nil || got.Route != 0x80000000 || got.Track != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, mask := range []uint32{0, 1, 7, 0xffffffff} {
		if _, err := route.ParseMarks(mask); err == nil {
			t.Errorf("%#x was taken", mask)
		}
	}
}

// TestPlan holds the plans to what an administrator would type.
func TestPlan(t *testing.T) {
	const (
		v4 = `ip -4 route add local default dev lo table 7700 protocol 77
`
		v6 = `ip -6 route add local default dev lo table 7700 protocol 77
`
		mark4 = `ip -4 rule add priority 97 fwmark 0x20000000/0x20000000 lookup 7700 protocol 77
`
		mark6 = `ip -6 rule add priority 97 fwmark 0x20000000/0x20000000 lookup 7700 protocol 77
`
		from4 = `ip -4 rule add priority 97 from 127.0.0.1 iif lo ipproto 6 sport 80-81 lookup 7700 protocol 77
`
		from6 = `ip -6 rule add priority 97 from ::1 iif lo ipproto 6 sport 80-80 lookup 7700 protocol 77
`
		nft4 = `nft -f - <<EOF
table ip portredirector-7700 {
	chain output {
		type route hook output priority mangle
		ct direction original meta mark and 0x10000000 == 0x10000000 ct mark set ct mark or 0x10000000
		ct direction reply ct mark and 0x10000000 == 0x10000000 meta mark set mark or 0x20000000
	}
	chain prerouting {
		type filter hook prerouting priority mangle
		ct direction reply ct mark and 0x10000000 == 0x10000000 meta mark set mark or 0x20000000
	}
}
EOF
`
	)
	nft6 := strings.Replace(nft4, "table ip ", "table ip6 ", 1)
	tests := map[string]struct {
		services []string
		want     string
	}{
		"nothing":       {nil, ""},
		"loopback IPv4": {[]string{"127.0.0.1:80", "127.0.0.1:81"}, v4 + from4},
		"loopback IPv6": {[]string{"[::1]:80"}, v6 + from6},
		"loopback":      {[]string{"[::1]:80", "127.0.0.1:81", "[::ffff:127.0.0.1]:80"}, v4 + v6 + from4 + from6},
		"tracked IPv4":  {[]string{"10.0.0.2:80", "10.0.0.3:81"}, v4 + nft4 + mark4},
		"tracked IPv6":  {[]string{"[fd00::2]:80"}, v6 + nft6 + mark6},
		"both":          {[]string{"127.0.0.1:80", "127.0.0.1:81", "[fd00::2]:80"}, v4 + v6 + nft6 + from4 + mark6},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := route.Plan{Table: 7700, Marks: route.Marks{Route: 0x20000000, Track: 0x10000000}}
			for _, s := range tt.services {
				service := netip.MustParseAddrPort(s)
				if _, ok := p.Has(service); ok && service.Addr().IsLoopback() {
					t.Errorf("%s is there already", s)
				}
				p = p.With(service)
				want := uint32(0)
				if !service.Addr().Unmap().IsLoopback() {
					want = 0x10000000
				}
				if mark, ok := p.Has(service); !ok || mark != want {
					t.Errorf("%s: mark %#x, %v", s, mark, ok)
				}
			}
			if diff := cmp.Diff(tt.want, p.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestPlanIsSetOfPorts adds ports in any order, and holds the rules to be as few
// as they can be, and for these ports and no others.
func TestPlanIsSetOfPorts(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		var p route.Plan
		in := make(map[netip.AddrPort]bool)
		at := func(port int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + port/20)}), uint16(1+port%20))
		}
		for range random.IntN(40) {
			s := at(random.IntN(60))
			in[s], p = true, p.With(s)
		}
		rules := 0
		for i := range 60 {
			if _, ok := p.Has(at(i)); ok != in[at(i)] {
				t.Fatalf("%s: %v\n%s", at(i), ok, p)
			}
			if in[at(i)] && (i%20 == 0 || !in[at(i-1)]) {
				rules++
			}
		}
		if got := strings.Count(p.String(), "sport"); got != rules {
			t.Fatalf("%d rules, want %d\n%s", got, rules, p)
		}
	}
}
