package wire_test

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"slices"
	"testing"

	"portredirector/internal/wire"
)

// datagramHeaders are headers of each family.
func datagramHeaders() []wire.Header {
	id := wire.ID{1, 2, 3}
	at := netip.MustParseAddrPort
	return []wire.Header{
		{Source: at("203.0.113.7:51234"), Destination: at("192.0.2.1:53"), ID: id},
		{Source: at("[2001:db8::7]:51234"), Destination: at("[2001:db8::1]:53"), ID: id},
		{Source: at("203.0.113.7:51234"), Destination: at("[2001:db8::1]:53")},
		{Local: true},
	}
}

// TestDatagram reads what is written, with and without a payload, and nothing that is cut.
func TestDatagram(t *testing.T) {
	for _, h := range datagramHeaders() {
		for _, f := range []wire.Form{wire.Native, wire.V2} {
			b, err := h.AppendDatagram(nil, f)
			if err != nil {
				t.Fatal(err)
			}
			if len(b) > wire.DatagramRoom {
				t.Errorf("%v takes %d bytes", h, len(b))
			}
			want := h
			if f == wire.V2 {
				want.ID = wire.ID{}
			}
			for _, payload := range []string{"", "payload", string(b)} {
				got, form, rest, err := wire.ReadDatagram(append(slices.Clip(b), payload...))
				if err != nil || got != want || form != wire.V2 || string(rest) != payload {
					t.Errorf("%v: read %v, %v, %q, %v", h, got, form, rest, err)
				}
			}
			for n := range b {
				if _, _, _, err := wire.ReadDatagram(b[:n:n]); !errors.Is(err, wire.ErrUnknown) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%d bytes of %d: %v", n, len(b), err)
				}
			}
			if h.Local {
				continue
			}
			if _, _, err := wire.Read(bytes.NewReader(b)); !errors.Is(err, wire.ErrFamily) {
				t.Errorf("a TCP link takes the header of a datagram: %v", err)
			}
		}
	}
	for _, f := range []wire.Form{wire.V1, wire.Py} {
		if _, err := datagramHeaders()[0].AppendDatagram(nil, f); !errors.Is(err, wire.ErrForm) {
			t.Errorf("%v: %v", f, err)
		}
	}
}

// TestProtocolDatagram holds the example in PROTOCOL.md to the code.
func TestProtocolDatagram(t *testing.T) {
	h := claim("203.0.113.7:51234", "192.0.2.1:53")
	b, err := h.AppendDatagram(nil, wire.Native)
	if err != nil {
		t.Fatal(err)
	}
	if want := unhex(t, fenced(t, protocol(t), "hex datagram")); want != string(b)+"hi" {
		t.Errorf("PROTOCOL.md has % X, the code writes % X", want, b)
	}
}

// TestDatagramOfOthers reads what nginx writes in front of a session's first datagram, and refuses headers of TCP.
func TestDatagramOfOthers(t *testing.T) {
	h, form, payload, err := wire.ReadDatagram([]byte("PROXY TCP4 203.0.113.7 192.0.2.1 51234 53\r\nPROXY"))
	if err != nil || form != wire.V1 || h != (wire.Header{Source: datagramHeaders()[0].Source, Destination: datagramHeaders()[0].Destination}) || string(payload) != "PROXY" {
		t.Errorf("read %v, %v, %q, %v", h, form, payload, err)
	}
	tcp, err := datagramHeaders()[0].Append(nil, wire.Native)
	if err != nil {
		t.Fatal(err)
	}
	local, err := wire.Header{Local: true}.Append(nil, wire.Native)
	if err != nil {
		t.Fatal(err)
	}
	if h, _, _, err := wire.ReadDatagram(local); err != nil || !h.Local || !h.Answer {
		t.Errorf("a health check: %v, %v", h, err)
	}
	for name, tt := range map[string]struct {
		b    []byte
		want error
	}{
		"TCP":              {tcp, wire.ErrFamily},
		"no line":          {[]byte("PROXY TCP4 203.0.113.7 192.0.2.1 51234 53"), wire.ErrV1Line},
		"a malformed line": {[]byte("PROXY TCP4 203.0.113.7 192.0.2.1 51234\r\n"), wire.ErrV1Line},
		"another protocol": {[]byte("PROXY UDP4 203.0.113.7 192.0.2.1 51234 53\r\n"), wire.ErrV1Line},
		"py":               {[]byte("203.0.113.7:51234:443\n"), wire.ErrUnknown},
		"nothing":          {nil, wire.ErrUnknown},
	} {
		if _, _, _, err := wire.ReadDatagram(tt.b); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

// FuzzDatagram wants each header that is read to be written and read again, and the payload to be the rest.
func FuzzDatagram(f *testing.F) {
	for _, h := range datagramHeaders() {
		b, err := h.AppendDatagram(nil, wire.Native)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append(b, "payload"...))
	}
	f.Add([]byte("PROXY TCP4 203.0.113.7 192.0.2.1 51234 53\r\nhello"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, _, payload, err := wire.ReadDatagram(b)
		if err != nil {
			return
		}
		if len(payload) > 0 && &payload[len(payload)-1] != &b[len(b)-1] {
			t.Error("the payload is not the end of the datagram")
		}
		again, err := h.AppendDatagram(nil, wire.Native)
		if err != nil {
			t.Fatalf("%v cannot be written: %v", h, err)
		}
		if got, _, _, err := wire.ReadDatagram(again); err != nil || got != h {
			t.Errorf("%v was read again as %v, %v", h, got, err)
		}
	})
}
