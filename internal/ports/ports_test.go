package ports_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/ports"
)

func TestParse(t *testing.T) {
	for s, want := range map[string]ports.Range{
		"80": {First: 80, Last: 80}, "1": {First: 1, Last: 1}, "65535": {First: 65535, Last: 65535},
		"8000-8099": {First: 8000, Last: 8099}, "1-65535": {First: 1, Last: 65535},
		"53/udp": {First: 53, Last: 53, Protocol: ports.UDP}, "27000-27010/udp": {First: 27000, Last: 27010, Protocol: ports.UDP},
	} {
		got, err := ports.Parse(s)
		if err != nil || got != want || got.String() != s {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0", "-", "80-", "-80", "65536", "2-1", "0-1", "1-65536", "1-2-3", " 80", "80 ", "+80", "http", "80-81-", "80/", "80/sctp", "/udp", "80/udp/udp", "80/udp-81"} {
		if got, err := ports.Parse(s); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func tcp(port uint16) ports.Port { return ports.Port{Number: port} }

func TestRange(t *testing.T) {
	all := ports.Range{First: 1, Last: 65535}
	if all.Len() != 65535 || !all.Has(tcp(1)) || !all.Has(tcp(65535)) || all.Has(tcp(0)) || all.Has(ports.Port{Protocol: ports.UDP, Number: 1}) {
		t.Errorf("%v has %d ports", all, all.Len())
	}
	if one := ports.One(tcp(80)); one.Len() != 1 || !one.Has(tcp(80)) || one.Has(tcp(79)) || one.Has(tcp(81)) {
		t.Errorf("%v has %d ports", one, one.Len())
	}
}

func TestMerge(t *testing.T) {
	got := ports.Merge([]ports.Range{{First: 443, Last: 443}, {First: 82, Last: 90}, {First: 80, Last: 81}, {First: 65000, Last: 65535}, {First: 65535, Last: 65535}, {First: 85, Last: 86}, {First: 91, Last: 91, Protocol: ports.UDP}})
	want := []ports.Range{{First: 80, Last: 90}, {First: 443, Last: 443}, {First: 65000, Last: 65535}, {First: 91, Last: 91, Protocol: ports.UDP}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, tt := range []struct {
		r    ports.Range
		want bool
	}{{ports.Range{First: 80, Last: 90}, true}, {ports.One(tcp(443)), true}, {ports.Range{First: 90, Last: 91}, false}, {ports.Range{First: 80, Last: 443}, false}, {ports.Range{First: 80, Last: 80, Protocol: ports.UDP}, false}} {
		if ports.Cover(got, tt.r) != tt.want {
			t.Errorf("%v covers %v: %t, want %t", got, tt.r, !tt.want, tt.want)
		}
	}
}
