package wire_test

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"portredirector/internal/wire"
)

// testID is the id in the examples of PROTOCOL.md.
var testID = wire.ID{0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f}

var allForms = []wire.Form{wire.Native, wire.V2, wire.V1, wire.Py}

// claim returns a header from src to dst with testID.
func claim(src, dst string) wire.Header {
	return wire.Header{
		Source:      netip.MustParseAddrPort(src),
		Destination: netip.MustParseAddrPort(dst),
		ID:          testID,
	}
}

// carried returns what of h arrives in form f.
func carried(h wire.Header, f wire.Form) wire.Header {
	if h.Answer, h.Bans = f == wire.Native, f == wire.Native; !h.Answer {
		h.ID = wire.ID{}
	}
	if f == wire.Py {
		h.Destination = netip.AddrPortFrom(netip.Addr{}, h.Destination.Port())
	}
	return h
}

func mustAppend(tb testing.TB, h wire.Header, f wire.Form) []byte {
	tb.Helper()
	b, err := h.Append(nil, f)
	if err != nil {
		tb.Fatalf("Append(%+v, %v): %v", h, f, err)
	}
	return b
}

// wantHeader compares; addresses by ==, for their fields are not exported.
func wantHeader(tb testing.TB, got, want wire.Header) {
	tb.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		tb.Errorf("header differs (-want +got):\n%s", diff)
	}
}

func TestRoundTrip(t *testing.T) {
	v4 := claim("203.0.113.7:51234", "192.0.2.1:443")
	noID := v4
	noID.ID = wire.ID{}
	tests := map[string]struct {
		h     wire.Header
		forms []wire.Form
	}{
		"IPv4":                        {v4, allForms},
		"no id":                       {noID, allForms},
		"widest IPv4":                 {claim("223.255.255.255:65535", "223.255.255.255:65535"), allForms},
		"narrowest IPv4":              {claim("1.1.1.1:1", "1.1.1.1:1"), allForms},
		"loopback, low ports":         {claim("127.0.0.1:1", "127.0.0.1:9"), allForms},
		"IPv6":                        {claim("[2001:db8::7]:51234", "[2001:db8::1]:443"), allForms[:3]},
		"narrowest IPv6":              {claim("[::1]:1", "[::]:1"), allForms[:3]},
		"widest IPv6":                 {claim("[1111:2222:3333:4444:5555:6666:7777:8888]:65535", "[1111:2222:3333:4444:5555:6666:7777:8888]:65535"), allForms[:3]},
		"IPv4 source, IPv6 arrival":   {claim("203.0.113.7:51234", "[2001:db8::1]:443"), allForms},
		"IPv6 source, IPv4 arrival":   {claim("[2001:db8::7]:51234", "192.0.2.1:443"), allForms[:3]},
		"IPv4 with zeros, IPv6":       {claim("1.0.0.2:1", "[2001:db8::1]:443"), allForms},
		"local":                       {wire.Header{Local: true, ID: testID}, allForms[:3]},
		"local without an id":         {wire.Header{Local: true}, allForms[:3]},
		"unspecified arrival address": {claim("203.0.113.7:51234", "0.0.0.0:443"), allForms},
	}
	for name, tt := range tests {
		for _, f := range tt.forms {
			t.Run(name+"/"+f.String(), func(t *testing.T) {
				b := mustAppend(t, tt.h, f)
				got, form, err := wire.Read(bytes.NewReader(b))
				if err != nil {
					t.Fatalf("Read(%q): %v", b, err)
				}
				if form != f {
					t.Errorf("form is %v, want %v", form, f)
				}
				wantHeader(t, got, carried(tt.h, f))
			})
		}
	}
}

func TestAppendUnmapsAndDropsZones(t *testing.T) {
	tests := map[string]struct{ mapped, plain wire.Header }{
		"mapped": {
			claim("[::ffff:203.0.113.7]:51234", "[::ffff:192.0.2.1]:443"),
			claim("203.0.113.7:51234", "192.0.2.1:443"),
		},
		"zone": {
			claim("[fe80::7%eth0]:51234", "[fe80::1%eth0]:443"),
			claim("[fe80::7]:51234", "[fe80::1]:443"),
		},
		"zone of a mapped address": {
			claim("[::ffff:203.0.113.7%eth0]:51234", "192.0.2.1:443"),
			claim("203.0.113.7:51234", "192.0.2.1:443"),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, f := range allForms[:3] {
				if diff := cmp.Diff(mustAppend(t, tt.plain, f), mustAppend(t, tt.mapped, f)); diff != "" {
					t.Errorf("%v differs (-plain +mapped):\n%s", f, diff)
				}
			}
		})
	}
}

func TestAppendIsAppend(t *testing.T) {
	h := claim("203.0.113.7:51234", "[2001:db8::1]:443")
	for _, f := range allForms {
		b, err := h.Append([]byte("before"), f)
		if err != nil {
			t.Fatal(err)
		}
		if want := "before" + string(mustAppend(t, h, f)); string(b) != want {
			t.Errorf("%v: %q, want %q", f, b, want)
		}
	}
}

func TestAppendRefuses(t *testing.T) {
	good := claim("203.0.113.7:51234", "192.0.2.1:443")
	noDestination := good
	noDestination.Destination = netip.AddrPortFrom(netip.Addr{}, 443)
	tests := map[string]struct {
		h     wire.Header
		forms []wire.Form
		want  error
	}{
		"zero header":           {wire.Header{}, allForms, wire.ErrSource},
		"source port 0":         {claim("203.0.113.7:0", "192.0.2.1:443"), allForms, wire.ErrSource},
		"source 0.0.0.0":        {claim("0.0.0.0:51234", "192.0.2.1:443"), allForms, wire.ErrSource},
		"source ::":             {claim("[::]:51234", "192.0.2.1:443"), allForms, wire.ErrSource},
		"source ::ffff:0.0.0.0": {claim("[::ffff:0.0.0.0]:51234", "192.0.2.1:443"), allForms, wire.ErrSource},
		"destination port 0":    {claim("203.0.113.7:51234", "192.0.2.1:0"), allForms, wire.ErrDestination},
		"no destination":        {noDestination, allForms[:3], wire.ErrDestination},
		"IPv6 in py":            {claim("[2001:db8::7]:51234", "192.0.2.1:443"), allForms[3:], wire.ErrPyIPv6},
		"local in py":           {wire.Header{Local: true}, allForms[3:], wire.ErrPyLocal},
		"unknown form":          {good, []wire.Form{4, 255}, wire.ErrForm},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, f := range tt.forms {
				b, err := tt.h.Append([]byte("before"), f)
				if !errors.Is(err, tt.want) {
					t.Errorf("%v: error %v, want %v", f, err, tt.want)
				}
				if string(b) != "before" {
					t.Errorf("%v: %q after an error, want what was there before", f, b)
				}
			}
		})
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	h := claim("203.0.113.7:51234", "[2001:db8::1]:443")
	b := make([]byte, 0, 128)
	for _, f := range allForms {
		if n := testing.AllocsPerRun(100, func() { _, _ = h.Append(b, f) }); n != 0 {
			t.Errorf("%v: %v allocations, want 0", f, n)
		}
	}
}

func TestID(t *testing.T) {
	if !(wire.ID{}).IsZero() || testID.IsZero() {
		t.Error("IsZero is wrong")
	}
	if got, want := testID.String(), "101112131415161718191a1b1c1d1e1f"; got != want {
		t.Errorf("String() is %q, want %q", got, want)
	}
	if a, b := wire.NewID(), wire.NewID(); a == b || a.IsZero() || b.IsZero() {
		t.Errorf("NewID() gave %v and then %v", a, b)
	}
}

// The caller says "read header: " or "append header: "; the package must not.
func TestErrorsDoNotStutter(t *testing.T) {
	for _, in := range []string{"", "x", "\r\n", "PROXY x\r\n       ", "1.2.3.4:x", "\x16\x03"} {
		_, _, err := wire.Read(strings.NewReader(in))
		if err == nil || strings.Contains(err.Error(), "header:") {
			t.Errorf("Read(%q): %v", in, err)
		}
	}
}
