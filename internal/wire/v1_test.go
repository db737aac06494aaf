package wire_test

import (
	"errors"
	"strings"
	"testing"

	"portredirector/internal/wire"
)

func TestV1Accepts(t *testing.T) {
	tests := map[string]struct{ in, src, dst string }{
		"the specification's example":   {"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", "192.168.0.1:56324", "192.168.0.11:443"},
		"IPv6 in upper case":            {"PROXY TCP6 2001:DB8::A 2001:DB8::B 1 2\r\n", "[2001:db8::a]:1", "[2001:db8::b]:2"},
		"IPv6 with leading zeros":       {"PROXY TCP6 2001:0db8:0000:0000:0000:0000:0000:000a ::0001 1 2\r\n", "[2001:db8::a]:1", "[::1]:2"},
		"mapped, as groups":             {"PROXY TCP6 ::ffff:cb00:7107 2001:db8::1 1 2\r\n", "203.0.113.7:1", "[2001:db8::1]:2"},
		"mapped, as inet_ntop does":     {"PROXY TCP6 ::ffff:203.0.113.7 2001:db8::1 1 2\r\n", "203.0.113.7:1", "[2001:db8::1]:2"},
		"both mapped":                   {"PROXY TCP6 ::ffff:203.0.113.7 ::ffff:192.0.2.1 1 2\r\n", "203.0.113.7:1", "192.0.2.1:2"},
		"IPv4 destination in TCP6":      {"PROXY TCP6 2001:db8:77::7 198.51.100.1 5555 443\r\n", "[2001:db8:77::7]:5555", "198.51.100.1:443"},
		"IPv6 destination in TCP4":      {"PROXY TCP4 203.0.113.7 2001:db8::1 5555 443\r\n", "203.0.113.7:5555", "[2001:db8::1]:443"},
		"the shortest of the latter":    {"PROXY TCP4 1.1.1.1 :: 1 1\r\n", "1.1.1.1:1", "[::]:1"},
		"unspecified destination":       {"PROXY TCP4 203.0.113.7 0.0.0.0 1 2\r\n", "203.0.113.7:1", "0.0.0.0:2"},
		"the longest line of IPv4 (56)": {"PROXY TCP4 223.255.255.255 223.255.255.255 65535 65535\r\n", "223.255.255.255:65535", "223.255.255.255:65535"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, form, err := wire.Read(strings.NewReader(tt.in))
			if err != nil || form != wire.V1 {
				t.Fatalf("form %v, %v", form, err)
			}
			want := claim(tt.src, tt.dst)
			want.ID = wire.ID{}
			wantHeader(t, got, want)
		})
	}
}

// Section 2.1: for UNKNOWN "the receiver must ignore anything presented before
// the CRLF is found" and "SHOULD accept the connection".
func TestV1UnknownIgnoresTheRest(t *testing.T) {
	for _, in := range []string{
		"PROXY UNKNOWN\r\n",
		"PROXY UNKNOWN \r\n",
		"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
		"PROXY UNKNOWN 1.2.3.4 5.6.7.8 1 2\r\n",
		"PROXY UNKNOWN \n\r\r \x00\xff\r\n",
	} {
		got, form, err := wire.Read(strings.NewReader(in))
		if err != nil || form != wire.V1 {
			t.Errorf("Read(%q): form %v, %v", in, form, err)
		}
		wantHeader(t, got, wire.Header{Local: true})
	}
}

// Section 2.1: "Any sequence which does not exactly match the protocol must be
// discarded".
func TestV1Refuses(t *testing.T) {
	tests := map[string]struct {
		in   string
		want error
	}{
		"another protocol":              {"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n", wire.ErrV1Line},
		"lower case":                    {"PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n", wire.ErrV1Line},
		"UNKNOWN run on":                {"PROXY UNKNOWNS 1.2.3.4 5.6.7.8 1 2\r\n", wire.ErrV1Line},
		"UNKNOWN and a lone CR":         {"PROXY UNKNOWN\rX ::1 ::2 1 2\r\n", wire.ErrV1Line},
		"UNKNOWN and a lone LF":         {"PROXY UNKNOWN\n ::1 ::2 1 2\r\n", wire.ErrV1Line},
		"two spaces before the name":    {"PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n", wire.ErrV1Line},
		"two spaces between addresses":  {"PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n", wire.ErrV1Line},
		"a space at the end":            {"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n", wire.ErrV1Line},
		"a tab":                         {"PROXY TCP4 1.2.3.4\t5.6.7.8 1 2 3\r\n", wire.ErrV1Line},
		"a field too many":              {"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n", wire.ErrV1Line},
		"a field too few":               {"PROXY TCP4 1.2.3.4 5.6.7.8 12345\r\n", wire.ErrV1Line},
		"no fields":                     {"PROXY TCP4 \r\n  ", wire.ErrV1Line},
		"LF without CR":                 {"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", wire.ErrV1Line},
		"CR without LF":                 {"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r ", wire.ErrV1Line},
		"CR inside":                     {"PROXY TCP4 1.2.3.4 5.6.7.8 1\r2 3\r\n", wire.ErrV1Line},
		"IPv6 in TCP4":                  {"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n", wire.ErrV1Line},
		"mapped in TCP4":                {"PROXY TCP4 ::ffff:1.2.3.4 5.6.7.8 1 2\r\n", wire.ErrV1Line},
		"IPv4 in TCP6":                  {"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n", wire.ErrV1Line},
		"IPv6 source in TCP4":           {"PROXY TCP4 2001:db8::7 5.6.7.8 1 2\r\n", wire.ErrV1Line},
		"IPv4 source in TCP6":           {"PROXY TCP6 1.2.3.4 2001:db8::1 1 2\r\n", wire.ErrV1Line},
		"zone of a destination in TCP4": {"PROXY TCP4 1.2.3.4 fe80::1%eth0 1 2\r\n", wire.ErrV1Line},
		"a zone":                        {"PROXY TCP6 fe80::1%eth0 2001:db8::1 1 2\r\n", wire.ErrV1Line},
		"zeros in front of an octet":    {"PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n", wire.ErrV1Line},
		"an octet too large":            {"PROXY TCP4 256.2.3.4 5.6.7.8 1 2\r\n", wire.ErrV1Line},
		"three octets":                  {"PROXY TCP4 1.2.345 5.6.7.8 1 2\r\n", wire.ErrV1Line},
		"zeros in front of a port":      {"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n", wire.ErrV1Line},
		"a port of zeros":               {"PROXY TCP4 1.2.3.4 5.6.7.8 1 00\r\n", wire.ErrV1Line},
		"a plus sign":                   {"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n", wire.ErrV1Line},
		"a minus sign":                  {"PROXY TCP4 1.2.3.4 5.6.7.8 1 -2\r\n", wire.ErrV1Line},
		"an underscore":                 {"PROXY TCP4 1.2.3.4 5.6.7.8 1_0 2\r\n", wire.ErrV1Line},
		"a hexadecimal port":            {"PROXY TCP4 1.2.3.4 5.6.7.8 0x1 2\r\n", wire.ErrV1Line},
		"a port too large":              {"PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n", wire.ErrV1Line},
		"a huge port":                   {"PROXY TCP4 1.2.3.4 5.6.7.8 1 18446744073709551617\r\n", wire.ErrV1Line},
		"source port 0":                 {"PROXY TCP4 1.2.3.4 5.6.7.8 0 2\r\n", wire.ErrSource},
		"destination port 0":            {"PROXY TCP4 1.2.3.4 5.6.7.8 1 0\r\n", wire.ErrDestination},
		"source 0.0.0.0":                {"PROXY TCP4 0.0.0.0 5.6.7.8 1 2\r\n", wire.ErrSource},
		"source ::":                     {"PROXY TCP6 :: 2001:db8::1 1 2\r\n", wire.ErrSource},
		"source ::ffff:0.0.0.0":         {"PROXY TCP6 ::ffff:0.0.0.0 2001:db8::1 1 2\r\n", wire.ErrSource},
		"TCP4 without an end":           {"PROXY TCP4 " + strings.Repeat("1", 200), wire.ErrTooLong},
		"UNKNOWN without an end":        {"PROXY UNKNOWN " + strings.Repeat("x", 200), wire.ErrTooLong},
		"UNKNOWN of 108 bytes":          {"PROXY UNKNOWN " + strings.Repeat("x", 108-len("PROXY UNKNOWN \r\n")) + "\r\n", wire.ErrTooLong},
		"TCP6 of 116 bytes, all mapped": {"PROXY TCP6 0000:0000:0000:0000:0000:ffff:223.255.255.255 0000:0000:0000:0000:0000:ffff:223.255.255.255 65535 65535\r\n", wire.ErrTooLong},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if h, _, err := wire.Read(strings.NewReader(tt.in)); !errors.Is(err, tt.want) {
				t.Errorf("Read(%q): %+v, error %v; want %v", tt.in, h, err, tt.want)
			}
		})
	}
}

// Section 2.1: "If the CRLF sequence is not found in the first 107 characters,
// the receiver should declare the line invalid": it reads no more to find out.
func TestV1ReadsAtMost107Bytes(t *testing.T) {
	for _, start := range []string{"PROXY UNKNOWN ", "PROXY TCP4 ", "PROXY TCP6 "} {
		r := strings.NewReader(start + strings.Repeat("1", 1000))
		if _, _, err := wire.Read(r); !errors.Is(err, wire.ErrTooLong) {
			t.Errorf("%q: error %v, want %v", start, err, wire.ErrTooLong)
		}
		if n := r.Size() - int64(r.Len()); n > 107 {
			t.Errorf("%q: %d bytes read, want 107 at most", start, n)
		}
	}
}
