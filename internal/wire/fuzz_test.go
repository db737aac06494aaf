package wire_test

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

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

// Whatever comes in on a link in either direction: the decoder does what a simple one does
// that has all of it at once, however it is cut.
func FuzzDecoder(f *testing.F) {
	for _, d := range directions {
		f.Add(d.answer, []byte(d.in), uint(len(d.in)/2))
	}
	f.Fuzz(func(t *testing.T, answer bool, in []byte, cut uint) {
		want := decodeSimply(answer, string(in))
		at := cut % uint(len(in)+1)
		for _, pieces := range [][]string{{string(in)}, {string(in[:at]), string(in[at:])}, strings.Split(string(in), "")} {
			if diff := cmp.Diff(want, decode(t, answer, pieces...)); diff != "" {
				t.Fatalf("%d pieces (-simple +decoder):\n%s", len(pieces), diff)
			}
		}
	})
}

// decodeSimply decodes a direction that has come as far as it will.
func decodeSimply(answer bool, in string) (x decoded) {
	for len(in) >= wire.FrameHead && x.Over == 0 && !x.Failed {
		kind, n := wire.Kind(in[0]), int(in[1])<<16|int(in[2])<<8|int(in[3])
		content := in[wire.FrameHead:min(wire.FrameHead+n, len(in))]
		open := !answer || x.Known
		switch {
		case !open && kind == wire.KindStatus && (n == 1 || n == 3) && len(content) < n:
			return x // it has not come
		case !open && kind == wire.KindStatus && n == 3 && content[0] == byte(wire.Banned):
			x.Status, x.Known, x.Over = wire.Banned, true, wire.Refusal
			x.Ban = wire.Ban{Left: min(time.Duration(content[1])*time.Second, wire.MaxBan), Bits: int(content[2])}
		case !open && kind == wire.KindStatus && n == 1 && content[0] <= byte(wire.Busy):
			x.Status, x.Known = wire.Status(content[0]), true
			if x.Status != wire.Connected {
				x.Over = wire.Refusal
			}
		case !open && kind == wire.KindBye && n == 0:
			x.Over = wire.Bye
		case open && kind == wire.KindData && n > 0:
			x.Content += content
		case open && kind == wire.KindEnd && n == 0:
			x.Over = wire.Ended
		case open && kind == wire.KindReset && n == 0:
			x.Over = wire.Reset
		default:
			x.Failed = true
		}
		in = in[wire.FrameHead+len(content):]
	}
	if x.Over != 0 {
		x.Rest = in
	}
	return x
}

// Whatever is sent in frames of whatever size is decoded to what was sent.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("content"), []byte{3, 1}, []byte("rest"), true)
	f.Add([]byte{}, []byte{}, []byte{}, false)
	f.Fuzz(func(t *testing.T, content, sizes, rest []byte, answer bool) {
		want := decoded{Content: string(content), Rest: string(rest), Over: wire.Ended, Known: answer}
		var in []byte
		if answer {
			in = wire.AppendFrame(in, wire.KindStatus, byte(wire.Connected))
		}
		for len(content) > 0 {
			n := len(content)
			if len(sizes) > 0 {
				n, sizes = min(n, 1+int(sizes[0])), sizes[1:]
			}
			in = wire.AppendFrame(in, wire.KindData, content[:n]...)
			content = content[n:]
		}
		in = append(wire.AppendFrame(in, wire.KindEnd), rest...)
		if diff := cmp.Diff(want, decode(t, answer, string(in))); diff != "" {
			t.Fatalf("(-sent +decoded):\n%s", diff)
		}
	})
}

// Whatever comes in as a later header: ReadNext takes one frame with one native header, and
// nothing behind it. With fix, in is the end of such a header, and its lengths and its
// checksum are made right.
func FuzzReadNext(f *testing.F) {
	native := mustAppend(f, claim("203.0.113.7:51234", "192.0.2.1:443"), wire.Native)
	f.Add(wire.AppendFrame(nil, wire.KindHeader, native...), false, false)
	f.Add(wire.AppendFrame(nil, wire.KindHeader, wire.Seal(native, sealKey, 3)...), false, true)
	f.Add(wire.AppendFrame(nil, wire.KindHeader, mustAppend(f, wire.Header{Local: true}, wire.Native)...), false, false)
	f.Add([]byte(answerMe), true, false)
	f.Add([]byte(answerMe+tlv(0xe1, strings.Repeat("x", 32))), true, true)
	f.Fuzz(func(t *testing.T, in []byte, fix, sealed bool) {
		if fix && len(in) < 5000 {
			in = []byte(frame(wire.KindHeader, signed(v2(0x21, 0x11, addrs4, tlv(0x03, "CRC!"), string(in)))))
		}
		var key []byte
		if sealed {
			key = sealKey
		}
		r := bytes.NewReader(in)
		h, form, err := wire.ReadNext(r, key, 3)
		n := len(in) - r.Len()
		one := bytes.NewReader(in)
		h1, form1, err1 := wire.ReadNext(iotest.OneByteReader(one), key, 3)
		if (err == nil) != (err1 == nil) || h != h1 || form != form1 {
			t.Fatalf("at once: %+v, %v, %v; byte by byte: %+v, %v, %v", h, form, err, h1, form1, err1)
		}
		if err != nil {
			if n > wire.FrameHead+16+4096 {
				t.Fatalf("%d bytes read", n)
			}
			return
		}
		first, _, err := wire.Read(bytes.NewReader(in[wire.FrameHead:n]))
		if err != nil || form != wire.Native || len(in)-one.Len() != n {
			t.Fatalf("form %v, %d bytes read; as a first header: %v", form, n, err)
		}
		wantHeader(t, h, first)
		if string(in[:wire.FrameHead]) != frame(wire.KindHeader, string(in[wire.FrameHead:n]))[:wire.FrameHead] {
			t.Fatalf("%x was taken, %d bytes", in, n)
		}
		if _, _, err := wire.ReadNext(bytes.NewReader(in[:n-1]), key, 3); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("without its last byte: %v, want %v", err, io.ErrUnexpectedEOF)
		}
		if want := wire.Seal(bytes.Clone(native), sealKey, 3); sealed && !bytes.Equal(in[wire.FrameHead:n], want) {
			t.Fatalf("%q was taken", in)
		}
	})
}
