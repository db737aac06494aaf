package wire_test

import (
	"bytes"
	"errors"
	"testing"

	"portredirector/internal/wire"
)

var sealKey = bytes.Repeat([]byte{7}, 32)

// TestSeal: a sealed header arrives, and to who does not look at seals it is any other.
func TestSeal(t *testing.T) {
	for _, h := range []wire.Header{
		claim("203.0.113.7:51234", "192.0.2.1:443"), claim("[2001:db8::7]:51234", "[2001:db8::1]:443"),
		{Local: true, ID: testID},
		{Source: claim("203.0.113.7:1", "192.0.2.1:2").Source, Destination: claim("203.0.113.7:1", "192.0.2.1:2").Destination},
	} {
		b := wire.Seal(mustAppend(t, h, wire.Native), sealKey, 0)
		b = append(b, "and more"...)
		for name, read := range map[string]func(*bytes.Reader) (wire.Header, wire.Form, error){
			"sealed":    func(r *bytes.Reader) (wire.Header, wire.Form, error) { return wire.ReadSealed(r, sealKey, 0) },
			"any other": func(r *bytes.Reader) (wire.Header, wire.Form, error) { return wire.Read(r) },
		} {
			r := bytes.NewReader(b)
			got, form, err := read(r)
			if err != nil || form != wire.Native || r.Len() != len("and more") {
				t.Fatalf("%s: %v, %v, %d bytes left", name, form, err, r.Len())
			}
			wantHeader(t, got, carried(h, wire.Native))
		}
	}
}

// TestBrokenSeal: whatever bit is changed, and whoever made it, it is refused. The
// checksum is made right again, as somebody on the way would.
func TestBrokenSeal(t *testing.T) {
	b := wire.Seal(mustAppend(t, claim("203.0.113.7:51234", "192.0.2.1:443"), wire.Native), sealKey, 0)
	if _, _, err := wire.ReadSealed(bytes.NewReader(b), bytes.Repeat([]byte{8}, 32), 0); !errors.Is(err, wire.ErrSeal) {
		t.Errorf("another key: %v", err)
	}
	const checksum = 16 + 12 + 3
	for i := range b {
		if i >= checksum && i < checksum+4 {
			continue
		}
		for bit := range 8 {
			changed := bytes.Clone(b)
			changed[i] ^= 1 << bit
			resigned := []byte(signed(string(changed[:checksum]) + "CRC!" + string(changed[checksum+4:])))
			if h, _, err := wire.ReadSealed(bytes.NewReader(resigned), sealKey, 0); err == nil {
				t.Errorf("bit %d of byte %d changed: %+v", bit, i, h)
			}
		}
	}
}

// TestUnsealed: a header without a seal is refused, in every form, and one that says
// nothing of which the checksum or the seal could be wrong.
func TestUnsealed(t *testing.T) {
	h := claim("203.0.113.7:51234", "192.0.2.1:443")
	all := [][]byte{[]byte(v2(0x20, 0x00)), []byte(v2(0x20, 0x11)), []byte(v2(0x20, 0x00, "\x01")), []byte("PROXY UNKNOWN\r\n")}
	for _, f := range allForms {
		all = append(all, mustAppend(t, h, f))
	}
	for _, b := range all {
		if _, _, err := wire.ReadSealed(bytes.NewReader(b), sealKey, 0); !errors.Is(err, wire.ErrSeal) {
			t.Errorf("%q: %v", b, err)
		}
	}
}

// TestSealedNumber: a header is accepted only in its own place on the link, so none can be
// sent again or in another order.
func TestSealedNumber(t *testing.T) {
	var sealed [3][]byte
	for i := range sealed {
		sealed[i] = wire.Seal(mustAppend(t, claim("203.0.113.7:51234", "192.0.2.1:443"), wire.Native), sealKey, uint64(i))
	}
	for i, b := range sealed {
		next := wire.AppendFrame(nil, wire.KindHeader, b...)
		for number := range uint64(4) {
			var want error
			if number != uint64(i) {
				want = wire.ErrSeal
			}
			if _, _, err := wire.ReadSealed(bytes.NewReader(b), sealKey, number); !errors.Is(err, want) {
				t.Errorf("header %d in place of header %d: error %v, want %v", i, number, err, want)
			}
			if _, _, err := wire.ReadNext(bytes.NewReader(next), sealKey, number); !errors.Is(err, want) {
				t.Errorf("header %d in place of header %d, in a frame: error %v, want %v", i, number, err, want)
			}
		}
	}
}

// TestSealNeedsAKey: without a key no header is accepted.
func TestSealNeedsAKey(t *testing.T) {
	b := mustAppend(t, claim("203.0.113.7:51234", "192.0.2.1:443"), wire.Native)
	if _, _, err := wire.ReadSealed(bytes.NewReader(b), nil, 0); !errors.Is(err, wire.ErrSeal) {
		t.Errorf("error %v, want %v", err, wire.ErrSeal)
	}
}
