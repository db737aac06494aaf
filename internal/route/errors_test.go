package route_test

import (
	"fmt"
	"strings"
	"testing"

	"portredirector/internal/testnet/nstest"
)

// TestErrorsNameTheMend breaks the machine in each way that is known and
// looks at what the user is told.
func TestErrorsNameTheMend(t *testing.T) {
	tests := map[string]struct {
		prepare []string // run in the host
		wrap    []string // run the server under this
		config  string
		service string
		want    []string
	}{
		"no capability": {
			wrap: []string{"setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"}, service: loopback4,
			want: []string{"operation not permitted", "CAP_NET_ADMIN", "as root", "setcap", "AmbientCapabilities", "--cap-add"},
		},
		"no capability, tracked": {
			wrap: []string{"setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"}, service: own4,
			want: []string{"CAP_NET_ADMIN", "as root", "setcap", "AmbientCapabilities"},
		},
		"a firewall on lo": {
			prepare: []string{"nft", "add table ip f; add chain ip f in { type filter hook input priority 0; }; add rule ip f in iif lo ip saddr 198.51.100.0/24 drop"},
			service: loopback4,
			want:    []string{"198.51.100.77", "does not reach the service", "chain in of nftables table ip f", "firewall"},
		},
		"a firewall on own addresses": {
			prepare: []string{"nft", "add table ip f; add chain ip f in { type filter hook input priority 0; }; add rule ip f in ip daddr 10.1.0.2 drop"},
			service: own4,
			want:    []string{"does not reach the service", "10.1.0.2", "chain in of nftables table ip f", "firewall"},
		},
		"no default route": {
			prepare: []string{"ip", "route", "del", "default"},
			service: own4,
			want:    []string{"no reply came back", "default route"},
		},
		"no route to the service": {
			prepare: []string{"ip", "route", "del", "default"},
			service: "192.0.2.9:80",
			want:    []string{"192.0.2.9", "unreachable"},
		},
		"another's mark": {
			prepare: []string{"ip", "rule", "add", "priority", "500", "fwmark", "0x10000000/0x10000000", "lookup", "500"},
			service: own4,
			want:    []string{"0x10000000", "priority 500", "choose two free bits"},
		},
		"marks that are none": {config: "0x7 7700", want: []string{"0x7", "two"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m2 := newM2(t)
			if len(tt.prepare) > 0 {
				nstest.Run(t, m2, tt.prepare[0], tt.prepare[1:]...)
			}
			nstest.Unchanged(t, m2)
			config := tt.config
			if config == "" {
				config = defaults
			}
			o := tryOwner(t, m2, config, tt.wrap...)
			if tt.service != "" {
				fmt.Fprintln(o.in, tt.service)
			}
			line := o.WaitOutput("error ")
			for _, w := range tt.want {
				if !strings.Contains(line, w) {
					t.Errorf("%q does not say %q", line, w)
				}
			}
			if tt.service != "" {
				o.end(t)
			}
		})
	}
}

// TestTakenTables: a table with routes of others, or of a living server, is
// passed over, and where all are taken it says so.
func TestTakenTables(t *testing.T) {
	m2 := newM2(t)
	add := func(table int) {
		nstest.Run(t, m2, "ip", "route", "add", "192.0.2.0/24", "via", "10.1.0.1", "table", fmt.Sprint(table))
	}
	add(7700)
	add(7701)
	o := startOwner(t, m2, defaults)
	o.need(t, loopback4)
	if !strings.Contains(strings.Join(ours(t, m2), "\n"), "lookup 7702") {
		t.Errorf("want table 7702: %q", ours(t, m2))
	}
	o.end(t)
	for table := 7702; table < 7732; table++ {
		add(table)
	}
	line := tryOwner(t, m2, defaults).WaitOutput("error ")
	for _, w := range []string{"7700", "7731", "choose others"} {
		if !strings.Contains(line, w) {
			t.Errorf("%q does not say %q", line, w)
		}
	}
}

// TestReservedTables: the kernel's own tables are none of ours.
func TestReservedTables(t *testing.T) {
	m2 := newM2(t)
	nstest.Unchanged(t, m2)
	var owners []*owner
	for range 3 {
		o := startOwner(t, m2, "0x30000000 252")
		if len(owners) == 0 { // 252 is RT_TABLE_COMPAT
			o.need(t, loopback4)
			if got := strings.Join(ours(t, m2), "\n"); !strings.Contains(got, "lookup 256") {
				t.Errorf("want table 256: %s", got)
			}
		}
		owners = append(owners, o)
	}
	for _, o := range owners {
		o.end(t)
	}
}
