package wire_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"portredirector/internal/wire"
)

// nextHeaders returns frames that hold a native header, and what they hold.
func nextHeaders(t *testing.T) map[string]wire.Header {
	t.Helper()
	all := map[string]wire.Header{}
	for _, h := range []wire.Header{
		claim("203.0.113.7:51234", "192.0.2.1:443"), claim("[2001:db8::7]:51234", "[2001:db8::1]:443"),
		{Local: true, ID: testID},
	} {
		all[frame(wire.KindHeader, string(mustAppend(t, h, wire.Native)))] = carried(h, wire.Native)
	}
	long := signed(v2(0x20, 0x00, tlv(0x03, "CRC!"), answerMe, tlv(0x04, strings.Repeat("\x00", 4096-28))))
	all[frame(wire.KindHeader, long)] = wire.Header{Local: true, Answer: true}
	return all
}

// ReadNext takes the frame and leaves what follows, however the bytes come.
func TestReadNext(t *testing.T) {
	for in, want := range nextHeaders(t) {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"at once":      func(r io.Reader) io.Reader { return r },
			"byte by byte": iotest.OneByteReader,
			"in halves":    iotest.HalfReader,
		} {
			r := strings.NewReader(in + "peer")
			got, form, err := wire.ReadNext(wrap(r), nil, 1)
			if err != nil || form != wire.Native || r.Len() != len("peer") {
				t.Errorf("%s: form %v, %d bytes left, error %v", name, form, r.Len(), err)
			}
			wantHeader(t, got, want)
		}
	}
}

// A header that has not come to its end is io.EOF or io.ErrUnexpectedEOF. Other errors of
// the reader are returned.
func TestReadNextCut(t *testing.T) {
	for in := range nextHeaders(t) {
		for n := range len(in) {
			want := io.ErrUnexpectedEOF
			if n == 0 {
				want = io.EOF
			}
			if h, _, err := wire.ReadNext(strings.NewReader(in[:n]), nil, 1); !errors.Is(err, want) {
				t.Errorf("%d of %d bytes: %+v, error %v, want %v", n, len(in), h, err, want)
			}
			r := io.MultiReader(strings.NewReader(in[:n]), iotest.ErrReader(os.ErrDeadlineExceeded))
			if _, _, err := wire.ReadNext(r, nil, 1); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%d of %d bytes: error %v, want that of the reader", n, len(in), err)
			}
		}
	}
}

func TestReadNextRefuses(t *testing.T) {
	h := claim("203.0.113.7:51234", "192.0.2.1:443")
	native := string(mustAppend(t, h, wire.Native))
	changed := bytes.Clone([]byte(native))
	changed[20] ^= 1
	for name, tt := range map[string]struct {
		in   string
		want error
	}{
		"no frame":                    {native, wire.ErrFrame},
		"data":                        {data(native), wire.ErrFrame},
		"end":                         {end, wire.ErrFrame},
		"unknown kind":                {frame(0, native), wire.ErrFrame},
		"nothing":                     {frame(wire.KindHeader, ""), wire.ErrFrame},
		"15 bytes":                    {frame(wire.KindHeader, native[:15]), wire.ErrFrame},
		"one byte too many announced": {string(wire.AppendHead(nil, wire.KindHeader, 16+4096+1)), wire.ErrFrame},
		"frame longer than header":    {frame(wire.KindHeader, native+"x"), wire.ErrFrame},
		"frame shorter than header":   {frame(wire.KindHeader, native[:len(native)-1]) + native[len(native)-1:], wire.ErrFrame},
		"v2":                          {frame(wire.KindHeader, string(mustAppend(t, h, wire.V2))), wire.ErrFrame},
		"v1":                          {frame(wire.KindHeader, string(mustAppend(t, h, wire.V1))), wire.ErrFrame},
		"py":                          {frame(wire.KindHeader, string(mustAppend(t, h, wire.Py))), wire.ErrFrame},
		"changed":                     {frame(wire.KindHeader, string(changed)), wire.ErrChecksum},
		"HTTP":                        {"HTTP/1.1 200 OK\r\n", wire.ErrFrame},
		"no header":                   {frame(wire.KindHeader, "GET / HTTP/1.1\r\n\r\n"), wire.ErrUnknown},
		"unsealed, with a key":        {frame(wire.KindHeader, native), wire.ErrSeal},
	} {
		t.Run(name, func(t *testing.T) {
			var key []byte
			if strings.HasSuffix(name, "with a key") {
				key = sealKey
			}
			if got, _, err := wire.ReadNext(strings.NewReader(tt.in+"peer"), key, 1); !errors.Is(err, tt.want) || got != (wire.Header{}) {
				t.Errorf("%+v, error %v, want %v", got, err, tt.want)
			}
		})
	}
}
