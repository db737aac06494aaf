package claim_test

import (
	"strings"
	"testing"

	"portredirector/internal/claim"
)

func TestParsePrefix(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"203.0.113.0/24", "203.0.113.0/24"},
		{"203.0.113.9", "203.0.113.9/32"},
		{"0.0.0.0/0", "0.0.0.0/0"},
		{"2001:DB8::/32", "2001:db8::/32"},
		{"2001:db8::1", "2001:db8::1/128"},
		{"::/0", "::/0"},
		{"127.0.0.1/8", "127.0.0.0/8"},
		{"2001:db8::1/64", "2001:db8::/64"},
		{"::ffff:203.0.113.9", "203.0.113.9/32"},
		{"::ffff:203.0.113.9/120", "203.0.113.0/24"},
		{"::ffff:0:0/96", "0.0.0.0/0"},
	} {
		if got, err := claim.ParsePrefix(tt.in); err != nil || got.String() != tt.want {
			t.Errorf("%s: got %v, %v, want %s", tt.in, got, err, tt.want)
		}
	}
	for _, tt := range []struct{ in, want string }{
		{"", "must be a prefix such as 203.0.113.0/24, or an address"},
		{"localhost", "must be a prefix"},
		{"203.0.113.9/33", "out of range"},
		{"203.0.113.9/255.255.255.0", "must be a prefix"},
		{"203.0.113.9:80", "must be a prefix"},
		{"fe80::1%eth0", "a claim has no zone"},
		{"fe80::1%eth0/64", "zones cannot be present"},
		{"::ffff:0:0/90", "is more than the IPv4-mapped addresses"},
	} {
		if got, err := claim.ParsePrefix(tt.in); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, %v, want an error with %q", tt.in, got, err, tt.want)
		}
	}
}
