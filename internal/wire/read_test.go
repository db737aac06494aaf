package wire_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"portredirector/internal/wire"
)

// whole returns headers of every form and shape that Read takes.
func whole(tb testing.TB) map[string]string {
	tb.Helper()
	return map[string]string{
		"native IPv4":     string(mustAppend(tb, claim("203.0.113.7:51234", "192.0.2.1:443"), wire.Native)),
		"native IPv6":     string(mustAppend(tb, claim("[2001:db8::7]:51234", "[2001:db8::1]:443"), wire.Native)),
		"native local":    string(mustAppend(tb, wire.Header{Local: true, ID: testID}, wire.Native)),
		"v2 IPv4":         string(mustAppend(tb, claim("203.0.113.7:51234", "192.0.2.1:443"), wire.V2)),
		"v2 IPv6":         string(mustAppend(tb, claim("[2001:db8::7]:51234", "192.0.2.1:443"), wire.V2)),
		"v2 local":        v2(0x20, 0x00),
		"v2 unspec":       v2(0x21, 0x00),
		"v2 long":         v2(0x21, 0x11, addrs4, tlv(0x04, strings.Repeat("\x00", 4000))),
		"v1 IPv4":         "PROXY TCP4 203.0.113.7 192.0.2.1 51234 443\r\n",
		"v1 IPv4 short":   "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
		"v1 IPv4 long":    "PROXY TCP4 223.255.255.255 223.255.255.255 65535 65535\r\n",
		"v1 IPv6":         "PROXY TCP6 2001:db8::7 2001:db8::1 51234 443\r\n",
		"v1 IPv6 short":   "PROXY TCP6 ::1 :: 1 1\r\n",
		"v1 IPv6 long":    "PROXY TCP6 2fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 2fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
		"v1 mixed":        "PROXY TCP6 2001:db8::7 192.0.2.1 51234 443\r\n",
		"v1 mixed short":  "PROXY TCP4 1.1.1.1 :: 1 1\r\n",
		"v1 unknown":      "PROXY UNKNOWN\r\n",
		"v1 unknown rest": "PROXY UNKNOWN what\r ever\n it \r\r says\r\n",
		"py":              "203.0.113.7:51234:443\n",
		"py short":        "1.1.1.1:1:1\n",
		"py long":         "223.255.255.255:65535:65535\n",
	}
}

// Read leaves what follows the header in the reader, however the bytes come.
func TestReadIsExact(t *testing.T) {
	readers := map[string]func(io.Reader) io.Reader{
		"at once":      func(r io.Reader) io.Reader { return r },
		"byte by byte": iotest.OneByteReader,
		"in halves":    iotest.HalfReader,
		"EOF at once":  iotest.DataErrReader,
	}
	const tails = "\r\n\x0012:1\nPROXY"
	for name, in := range whole(t) {
		want, wantForm, err := wire.Read(strings.NewReader(in))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for how, wrap := range readers {
			t.Run(name+"/"+how, func(t *testing.T) {
				for i := range len(tails) + 1 {
					r := wrap(strings.NewReader(in + tails[i:]))
					got, form, err := wire.Read(r)
					if err != nil || form != wantForm {
						t.Fatalf("form %v, %v; want %v", form, err, wantForm)
					}
					wantHeader(t, got, want)
					if rest, err := io.ReadAll(r); string(rest) != tails[i:] || err != nil {
						t.Errorf("%q (%v) is left in the reader, want %q", rest, err, tails[i:])
					}
				}
			})
		}
	}
}

// askReader fails the test when it is asked for more than the header has left:
// on a connection such a read would take bytes of the peer.
type askReader struct {
	t    *testing.T
	in   string
	asks int
}

func (r *askReader) Read(p []byte) (int, error) {
	if len(p) > len(r.in) {
		r.t.Errorf("Read asks for %d bytes, of which %d are the header's", len(p), len(r.in))
	}
	n := copy(p, r.in)
	r.in = r.in[n:]
	r.asks++
	return n, nil
}

func TestReadAsksForNoMoreThanMustCome(t *testing.T) {
	most := map[string]int{"native IPv4": 3, "v2 IPv6": 3, "v2 local": 2, "v1 unknown": 2, "v1 IPv4": 8, "py": 7}
	for name, in := range whole(t) {
		t.Run(name, func(t *testing.T) {
			r := &askReader{t: t, in: in}
			if _, _, err := wire.Read(r); err != nil {
				t.Fatal(err)
			}
			if limit, ok := most[name]; ok && r.asks > limit {
				t.Errorf("%d reads, want %d at most", r.asks, limit)
			}
		})
	}
}

// A header that is cut off anywhere is an error that says so.
func TestReadCut(t *testing.T) {
	for name, in := range whole(t) {
		t.Run(name, func(t *testing.T) {
			for n := range len(in) {
				want := io.ErrUnexpectedEOF
				if n == 0 {
					want = io.EOF
				}
				for _, r := range []io.Reader{
					strings.NewReader(in[:n]),
					iotest.OneByteReader(strings.NewReader(in[:n])),
				} {
					if h, _, err := wire.Read(r); !errors.Is(err, want) {
						t.Errorf("%d of %d bytes: %+v, error %v; want %v", n, len(in), h, err, want)
					}
				}
			}
		})
	}
}

func TestReadPassesOnErrors(t *testing.T) {
	for name, in := range whole(t) {
		for _, n := range []int{0, 1, len(in) - 1} {
			r := io.MultiReader(strings.NewReader(in[:n]), iotest.ErrReader(os.ErrDeadlineExceeded))
			if _, _, err := wire.Read(r); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s, %d bytes: error %v, want that of the reader", name, n, err)
			}
		}
	}
}

// Bytes that begin no form are refused at the first that fits none: the senders
// here say no more, and a reader that waited for more would see it end.
func TestReadUnknown(t *testing.T) {
	for _, in := range []string{
		"G", "\x00", "\n", "/", ":", "S", "p", "\x80", "\xff",
		"\r\r", "\r\n\r\n\x00\r\nQUIT\r", "\r\n\r\n\x01",
		"PO", "PROXY\t", "PROXYTCP4", "PROXY\r\n",
		"\x16\x02", "\x16\x16",
	} {
		if _, _, err := wire.Read(strings.NewReader(in)); !errors.Is(err, wire.ErrUnknown) {
			t.Errorf("Read(%q): error %v, want %v", in, err, wire.ErrUnknown)
		}
	}
}

func TestReadTLS(t *testing.T) {
	for _, in := range []string{"\x16\x03", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03..."} {
		for _, r := range []io.Reader{strings.NewReader(in), iotest.OneByteReader(strings.NewReader(in))} {
			if _, _, err := wire.Read(r); !errors.Is(err, wire.ErrTLS) {
				t.Errorf("Read(%q): error %v, want %v", in, err, wire.ErrTLS)
			}
		}
	}
	if _, _, err := wire.Read(strings.NewReader("\x16")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("after 16 alone: error %v, want %v", err, io.ErrUnexpectedEOF)
	}
}

// A silent reader is the caller's to interrupt: Read returns when it fails.
func TestReadEndsWithItsReader(t *testing.T) {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, _, err := wire.Read(r)
		done <- err
	}()
	if _, err := w.Write([]byte("PROXY TCP4")); err != nil {
		t.Fatal(err)
	}
	w.CloseWithError(os.ErrDeadlineExceeded)
	select {
	case err := <-done:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("error %v, want %v", err, os.ErrDeadlineExceeded)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Read does not return")
	}
}

// raceDetector reports whether sync.Pool drops what it is given now and then.
func raceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// What honest clients send is read without allocating; the text forms turn
// their addresses into strings.
func TestReadAllocations(t *testing.T) {
	if raceDetector() {
		t.Skip("under the race detector sync.Pool drops things at random")
	}
	limits := map[string]float64{"v1 IPv4": 2, "v1 mixed": 2, "v1 mixed short": 2, "v1 IPv4 long": 2, "v1 IPv6": 2, "v1 IPv6 long": 2, "v1 IPv4 short": 2, "v1 IPv6 short": 2, "py": 1, "py short": 1, "py long": 1, "v2 long": 1}
	for name, in := range whole(t) {
		t.Run(name, func(t *testing.T) {
			b, r := []byte(in), new(bytes.Reader)
			n := testing.AllocsPerRun(100, func() {
				r.Reset(b)
				_, _, _ = wire.Read(r)
			})
			if n > limits[name] {
				t.Errorf("%v allocations, want %v at most", n, limits[name])
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	for name, in := range whole(b) {
		b.Run(name, func(b *testing.B) {
			in, r := []byte(in), new(bytes.Reader)
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(in)
				if _, _, err := wire.Read(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	h := claim("203.0.113.7:51234", "192.0.2.1:443")
	for _, f := range allForms {
		b.Run(f.String(), func(b *testing.B) {
			buf := make([]byte, 0, 128)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := h.Append(buf, f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
