package route_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/ports"
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
		mark4 = `ip -4 rule add priority 503 table 7700 nop protocol 77
ip -4 rule add priority 500 fwmark 0x30000000/0x30000000 iif lo goto 503 protocol 77
ip -4 rule add priority 501 fwmark 0x20000000/0x20000000 lookup 7700 protocol 77
`
		from4 = `ip -4 rule add priority 501 from 127.0.0.1/32 iif lo ipproto 6 sport 80-81 lookup 7700 protocol 77
`
		rest4 = `ip -4 rule add priority 502 from 127.0.0.1/32 iif lo lookup 7700 protocol 77
`
		from6 = `ip -6 rule add priority 501 from ::1/128 iif lo ipproto 6 sport 80-80 lookup 7700 protocol 77
ip -6 rule add priority 502 from ::1/128 iif lo ipproto 58 lookup 7700 protocol 77
`
		last4 = `ip -4 rule add priority 501 from 127.0.0.1/32 iif lo ipproto 6 sport 65534-65534 lookup 7700 protocol 77
`
		last6 = `ip -6 rule add priority 502 from ::1/128 iif lo ipproto 58 lookup 7700 protocol 77
ip -6 rule add priority 502 from ::1/128 iif lo ipproto 6 lookup 7700 protocol 77
`
		lastUDP6 = `ip -6 rule add priority 502 from ::1/128 iif lo ipproto 58 lookup 7700 protocol 77
ip -6 rule add priority 502 from ::1/128 iif lo ipproto 17 lookup 7700 protocol 77
`
		udp4 = `ip -4 rule add priority 501 from 127.0.0.1/32 iif lo ipproto 17 sport 53-53 lookup 7700 protocol 77
`
		udp6 = `ip -6 rule add priority 501 from ::1/128 iif lo ipproto 17 sport 53-53 lookup 7700 protocol 77
` + lastUDP6
		icmp4 = `ip -4 rule add priority 502 from 127.0.0.1/32 iif lo ipproto 1 lookup 7700 protocol 77
`
		nft4 = `nft -f - <<EOF
table ip portredirector-7700 {
	ct timeout datagrams {
		protocol udp
		policy = { unreplied : 190, replied : 190 }
	}
	chain note {
		type filter hook output priority -199
		meta l4proto udp meta mark & 0x10000000 == 0x10000000 ct label & 77 == 0 fib saddr type != local ct timeout set "datagrams"
		meta mark & 0x10000000 == 0x10000000 ct label & 77 == 0 fib saddr type != local ct label set 77
	}
	chain keep {
		type nat hook postrouting priority -190
		ct label 77 snat to ip saddr
	}
	chain route {
		type route hook output priority -1
		ct label 77 fib saddr type local meta mark set meta mark & 0xcfffffff | 0x20000000
	}
	chain enter {
		type filter hook prerouting priority 100
		meta l4proto udp iiftype != loopback ct state invalid,new,untracked socket mark & 0x10000000 == 0x10000000 ct timeout set "datagrams"
		iiftype != loopback ct state invalid,new,untracked meta l4proto udp socket mark & 0x10000000 == 0x10000000 ct label set 77 meta mark set meta mark & 0xcfffffff | 0x30000000
		iiftype != loopback ct state invalid,new,untracked tcp flags & (syn | ack) != syn socket mark & 0x10000000 == 0x10000000 ct label set 77 meta mark set meta mark & 0xcfffffff | 0x30000000
		iiftype != loopback ct label 77 meta mark set meta mark & 0xcfffffff | 0x30000000
	}
}
EOF
`
	)
	v6of := func(s string) string {
		return strings.NewReplacer("table ip ", "table ip6 ", "to ip ", "to ip6 ", "ip -4", "ip -6").Replace(s)
	}
	forgetful := func(s string) string {
		_, after, _ := strings.Cut(s, "replied : 190 }\n\t}\n")
		kept := slices.DeleteFunc(strings.SplitAfter(after, "\n"), func(line string) bool { return strings.Contains(line, "ct timeout") })
		return "nft -f - <<EOF\ntable ip portredirector-7700 {\n" + strings.Join(kept, "")
	}
	tests := map[string]struct {
		services []string
		want     string
	}{
		"nothing":        {nil, ""},
		"loopback IPv4":  {[]string{"127.0.0.1:80", "127.0.0.1:81"}, v4 + from4 + rest4},
		"loopback IPv6":  {[]string{"[::1]:80"}, v6 + from6},
		"loopback":       {[]string{"[::1]:80", "127.0.0.1:81", "[::ffff:127.0.0.1]:80"}, v4 + v6 + from4 + rest4 + from6},
		"the last port":  {[]string{"[::1]:65535", "127.0.0.1:65534", "127.0.0.1:65535"}, v4 + v6 + last4 + rest4 + last6},
		"tracked IPv4":   {[]string{"10.0.0.2:80", "10.0.0.3:81"}, v4 + nft4 + mark4},
		"tracked IPv6":   {[]string{"[fd00::2]:80"}, v6 + v6of(nft4+mark4)},
		"both":           {[]string{"127.0.0.1:80", "127.0.0.1:81", "[fd00::2]:80"}, v4 + v6 + v6of(nft4) + from4 + rest4 + v6of(mark4)},
		"UDP":            {[]string{"127.0.0.1:53/udp", "127.0.0.1:80", "127.0.0.1:81", "[::1]:53/udp"}, v4 + v6 + from4 + udp4 + rest4 + udp6},
		"the last UDP":   {[]string{"[::1]:65535/udp"}, v6 + lastUDP6},
		"tracked UDP":    {[]string{"10.0.0.2:53/udp"}, v4 + nft4 + mark4},
		"no timeouts":    {[]string{"no timeouts", "10.0.0.2:53/udp"}, v4 + forgetful(nft4) + mark4},
		"route_localnet": {[]string{"localnet", "127.0.0.1:80", "127.0.0.1:81"}, v4 + nft4 + mark4 + from4 + icmp4},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := route.Plan{Table: 7700, FlowTimeout: 190 * time.Second, Marks: route.Marks{Route: 0x20000000, Track: 0x10000000}}
			for _, s := range tt.services {
				switch s {
				case "localnet":
					p.Localnet = true
					continue
				case "no timeouts":
					p.FlowTimeout = 0
					continue
				}
				service := endpoint(s)
				if _, ok := p.Has(service); ok && service.Addr().IsLoopback() {
					t.Errorf("%s is there already", s)
				}
				p = p.With(service)
				want := uint32(0)
				if !service.Addr().Unmap().IsLoopback() || p.Localnet {
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
		in := make(map[ports.Endpoint]bool)
		at := func(port int) ports.Endpoint {
			return ports.TCP.At(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + port/20)}), uint16(1+port%20)))
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
