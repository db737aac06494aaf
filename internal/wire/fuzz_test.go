package wire_test

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"testing"
	"testing/iotest"

	"portredirector/internal/wire"
)

// Whatever comes in: Read does not panic and takes a bounded number of bytes;
// bytes that come one by one read the same; and what it accepts can be sent on
// in the same form and reads the same again.
func FuzzRead(f *testing.F) {
	for _, in := range whole(f) {
		f.Add([]byte(in))
	}
	f.Add([]byte("PROXY TCP6 ::ffff:1.2.3.4 2001:db8::1 1 2\r\n"))
	f.Add([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00"))
	f.Add([]byte(signed(v2(0x20, 0x11, addrs4, tlv(0x03, "CRC!"), answerMe))))
	f.Add([]byte(v2(0x20, 0x00, "\xde\xad")))
	f.Fuzz(readAny)
}

// The same, of one form at a time: what is fuzzed stands behind that by which the form is
// recognized.

func FuzzReadV1(f *testing.F) {
	for _, in := range []string{"TCP4 1.1.1.1 2.2.2.2 1 2\r\n", "TCP6 ::1 ::ffff:2.2.2.2 1 2\r\n", "UNKNOWN\r\n", "UNKNOWN and so on\r\n"} {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, in []byte) { readAny(t, append([]byte("PROXY "), in...)) })
}

func FuzzReadPy(f *testing.F) {
	f.Add([]byte(".1.1.1:1:1\n"))
	f.Add([]byte("23.255.255.255:65535:65535\n"))
	f.Fuzz(func(t *testing.T, in []byte) { readAny(t, append([]byte("1"), in...)) })
}

// The checksum is put in where there is room for one, so that what is behind it is
// reached.
func FuzzReadV2(f *testing.F) {
	f.Add(byte(0x21), byte(0x11), []byte(addrs4+tlv(0x05, string(testID[:]))), true)
	f.Add(byte(0x21), byte(0x21), []byte(addrs6("[2001:db8::7]:51234", "[::ffff:192.0.2.1]:443")+answerMe), true)
	f.Add(byte(0x20), byte(0x00), []byte("\xde\xad"), false)
	f.Fuzz(func(t *testing.T, command, family byte, rest []byte, checksum bool) {
		if len(rest) > 60_000 {
			return
		}
		var sum []string
		if checksum {
			sum = append(sum, tlv(0x03, "CRC!"))
		}
		in := v2(command, family, append([]string{string(rest)}, sum...)...)
		if checksum {
			in = signed(in)
		}
		readAny(t, []byte(in))
	})
}

// Whatever comes in on a link whose headers are sealed: only what was sealed is taken.
func FuzzReadSealed(f *testing.F) {
	sealed := wire.Seal(mustAppend(f, claim("203.0.113.7:51234", "192.0.2.1:443"), wire.Native), sealKey, 0)
	f.Add(sealed)
	f.Add(sealed[:len(sealed)-1])
	f.Add([]byte(v2(0x20, 0x00)))
	f.Fuzz(func(t *testing.T, in []byte) {
		_, _, err := wire.ReadSealed(bytes.NewReader(in), sealKey, 0)
		if err == nil && !bytes.HasPrefix(in, sealed) {
			t.Fatalf("%q was taken", in)
		}
	})
}

// readAny reads what may be anything.
func readAny(t *testing.T, in []byte) {
	t.Helper()
	r := bytes.NewReader(in)
	h, form, err := wire.Read(r)
	n := len(in) - r.Len()
	if n > 16+4096 {
		t.Fatalf("%d bytes read", n)
	}

	single := bytes.NewReader(in)
	h1, form1, err1 := wire.Read(iotest.OneByteReader(single))
	if (err == nil) != (err1 == nil) || h != h1 || form != form1 {
		t.Fatalf("at once: %+v, %v, %v; byte by byte: %+v, %v, %v", h, form, err, h1, form1, err1)
	}
	if err != nil {
		return
	}
	if n1 := len(in) - single.Len(); n != n1 {
		t.Fatalf("%d bytes read at once, %d byte by byte", n, n1)
	}
	if _, _, err := wire.Read(bytes.NewReader(in[:n-1])); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("without its last byte: %v, want %v", err, io.ErrUnexpectedEOF)
	}
	again, form2, err := wire.Read(bytes.NewReader(mustAppend(t, h, form)))
	if err != nil || form2 != form {
		t.Fatalf("sent on in form %v: form %v, %v", form, form2, err)
	}
	wantHeader(t, again, carried(h, form))
}

// Whatever is sent: Append refuses it, or Read gives back what the form carries.
func FuzzAppend(f *testing.F) {
	f.Add([]byte{203, 0, 113, 7}, uint16(51234), []byte{192, 0, 2, 1}, uint16(443), testID[:], false, byte(0))
	f.Add(netip.IPv6Loopback().AsSlice(), uint16(1), []byte{1, 1, 1, 1}, uint16(2), []byte{}, false, byte(2))
	f.Add([]byte{203, 0, 113, 7}, uint16(1), netip.IPv6Unspecified().AsSlice(), uint16(2), []byte{1}, false, byte(1))
	f.Add([]byte{203, 0, 113, 7}, uint16(1), []byte{}, uint16(2), []byte{}, false, byte(3))
	f.Add([]byte{}, uint16(0), []byte{}, uint16(0), []byte{}, true, byte(0))
	f.Fuzz(func(t *testing.T, src []byte, sport uint16, dst []byte, dport uint16, id []byte, local bool, form byte) {
		var h wire.Header
		if h.Local = local; !local {
			s, _ := netip.AddrFromSlice(src)
			d, _ := netip.AddrFromSlice(dst)
			h.Source = netip.AddrPortFrom(s.Unmap(), sport)
			h.Destination = netip.AddrPortFrom(d.Unmap(), dport)
		}
		copy(h.ID[:], id)
		b, err := h.Append(nil, wire.Form(form))
		if err != nil {
			if len(b) != 0 {
				t.Fatalf("%q after %v", b, err)
			}
			return
		}
		r := bytes.NewReader(append(b, "peer"...))
		got, f, err := wire.Read(r)
		if err != nil || f != wire.Form(form) || r.Len() != len("peer") {
			t.Fatalf("form %v, %d bytes left, %v", f, r.Len(), err)
		}
		wantHeader(t, got, carried(h, f))
	})
}
