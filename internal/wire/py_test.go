package wire_test

import (
	"errors"
	"strings"
	"testing"

	"portredirector/internal/wire"
)

func TestPyRefuses(t *testing.T) {
	tests := map[string]struct {
		in   string
		want error
	}{
		"CR LF":                   {"1.2.3.4:5:6\r\n", wire.ErrPyLine},
		"a space":                 {"1.2.3.4:5: 6\n", wire.ErrPyLine},
		"letters":                 {"220 ready", wire.ErrPyLine},
		"LDAP":                    {"0\x0c\x02\x01\x01`\x07\x02\x01\x03\x04\x00\x80\x00", wire.ErrPyLine},
		"a field too few":         {"1.2.3.4:56789\n", wire.ErrPyLine},
		"a field too many":        {"1.2.3.4:5:6:7\n", wire.ErrPyLine},
		"an LF too early":         {"1.2.3.4\n:5:6\n", wire.ErrPyLine},
		"no address":              {"1:2:3\n       ", wire.ErrPyLine},
		"an empty port":           {"1.2.3.40::6\n", wire.ErrPyLine},
		"an empty last port":      {"1.2.3.40:5:\n", wire.ErrPyLine},
		"three octets":            {"1.2.345:5:6\n", wire.ErrPyLine},
		"five octets":             {"1.2.3.4.5:5:6\n", wire.ErrPyLine},
		"zeros before an octet":   {"1.2.3.04:5:6\n", wire.ErrPyLine},
		"an octet too large":      {"1.2.3.256:5:6\n", wire.ErrPyLine},
		"zeros before a port":     {"1.2.3.4:05:6\n", wire.ErrPyLine},
		"zeros before the last":   {"1.2.3.4:5:06\n", wire.ErrPyLine},
		"a port too large":        {"1.2.3.4:65536:6\n", wire.ErrPyLine},
		"a last port too large":   {"1.2.3.4:5:65536\n", wire.ErrPyLine},
		"a plus sign":             {"1.2.3.4:5:+6\n", wire.ErrPyLine},
		"IPv6":                    {"2001:db8::7:5:6\n", wire.ErrPyLine},
		"source port 0":           {"1.2.3.4:0:6\n", wire.ErrSource},
		"source 0.0.0.0":          {"0.0.0.0:5:6\n", wire.ErrSource},
		"destination port 0":      {"1.2.3.4:5:0\n", wire.ErrDestination},
		"digits without an end":   {strings.Repeat("1", 100), wire.ErrTooLong},
		"29 bytes":                {"223.255.255.255:65535:655350\n", wire.ErrTooLong},
		"a last port without end": {"1.2.3.4:5:" + strings.Repeat("6", 100), wire.ErrTooLong},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := strings.NewReader(tt.in)
			if h, _, err := wire.Read(r); !errors.Is(err, tt.want) {
				t.Errorf("Read(%q): %+v, error %v; want %v", tt.in, h, err, tt.want)
			}
			if n := r.Size() - int64(r.Len()); n > 28 {
				t.Errorf("%d bytes read, want 28 at most", n)
			}
		})
	}
}

// str.encode(peerAddress + ':' + lport + "\n") in PyPortRedirector, where
// peerAddress is ip:port.
func TestPyIsPyPortRedirectorsLine(t *testing.T) {
	h := claim("198.51.100.23:40001", "192.0.2.1:8022")
	if got, want := string(mustAppend(t, h, wire.Py)), "198.51.100.23:40001:8022\n"; got != want {
		t.Errorf("Append gives %q, want %q", got, want)
	}
}
