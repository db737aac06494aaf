package wire_test

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"portredirector/internal/wire"
)

// exchange has the content of one direction of an exchange.
type exchange struct {
	Header  wire.Header // up
	Status  wire.Status // down
	Content []byte
	Over    wire.Terminator // none after a header that claims nobody, or its status
}

// frames writes the frames of an exchange, its content in pieces of random sizes.
func (x exchange) frames(t *rapid.T) []byte {
	var b []byte
	for left := x.Content; len(left) > 0; {
		n := rapid.IntRange(1, len(left)).Draw(t, "frame")
		b = wire.AppendFrame(b, wire.KindData, left[:n]...)
		left = left[n:]
	}
	kind, ok := map[wire.Terminator]wire.Kind{wire.Ended: wire.KindEnd, wire.Reset: wire.KindReset}[x.Over]
	if !ok {
		return b
	}
	return wire.AppendFrame(b, kind)
}

// drawContent draws what one direction carries, and how it ends.
func drawContent(t *rapid.T) (content []byte, over wire.Terminator) {
	content = rapid.SliceOf(rapid.Byte()).Draw(t, "content")
	content = bytes.Repeat(content, rapid.SampledFrom([]int{1, 1, 1, 300}).Draw(t, "times"))
	return content, rapid.SampledFrom([]wire.Terminator{wire.Ended, wire.Reset}).Draw(t, "terminator")
}

// drawHeader draws a header of the Native form, as Read returns it.
func drawHeader(t *rapid.T) wire.Header {
	h := wire.Header{Local: rapid.Bool().Draw(t, "local"), ID: testID, Answer: true, Bans: true}
	if !h.Local {
		source := rapid.SampledFrom([]string{"203.0.113.7", "2001:db8::7"}).Draw(t, "source")
		h.Source = netip.AddrPortFrom(netip.MustParseAddr(source), rapid.Uint16Min(1).Draw(t, "port"))
		h.Destination = netip.MustParseAddrPort("192.0.2.1:443")
	}
	return h
}

// pieces yields a stream in pieces of random sizes.
type pieces struct {
	t      *rapid.T
	stream []byte
	at     int
}

// next returns have with the next piece behind it.
func (p *pieces) next(have []byte) []byte {
	if p.at == len(p.stream) {
		p.t.Fatalf("the stream is over, %d bytes of it are kept", len(have))
	}
	n := rapid.IntRange(1, len(p.stream)-p.at).Draw(p.t, "piece")
	p.at += n
	return append(bytes.Clone(have), p.stream[p.at-n:p.at]...)
}

// direction decodes one direction of an exchange from have and the pieces. It returns what
// follows the exchange.
func (p *pieces) direction(answer bool, have []byte) (x exchange, rest []byte) {
	d := wire.Decoder{Answer: answer}
	for {
		content, behind, err := d.Decode(have)
		if err != nil {
			p.t.Fatal(err)
		}
		x.Content, rest = append(x.Content, have[:content]...), have[len(have)-behind:]
		if x.Status, _ = d.Status(); d.Over() != 0 {
			x.Over = d.Over()
			return x, rest
		}
		have = p.next(nil)
	}
}

// header reads the header of an exchange from have and the pieces. It returns what follows.
func (p *pieces) header(read func(io.Reader) (wire.Header, wire.Form, error), have []byte) (wire.Header, []byte) {
	for {
		r := bytes.NewReader(have)
		h, form, err := read(r)
		switch {
		case err == nil && form == wire.Native:
			return h, have[len(have)-r.Len():]
		case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			p.t.Fatalf("form %v, error %v", form, err)
		}
		have = p.next(have)
	}
}

// compare compares an exchange with what was sent.
func compare(t *rapid.T, got, want exchange) {
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{}), cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("(-sent +came):\n%s", diff)
	}
}

// TestExchangesUp sends random exchanges one after another over one stream, in random
// pieces: each arrives as it was sent, and ends where it was ended.
func TestExchangesUp(t *testing.T) {
	rapid.Check(t, exchangesUp)
}

func exchangesUp(t *rapid.T) {
	key := rapid.SampledFrom([][]byte{nil, sealKey}).Draw(t, "key")
	var sent []exchange
	p := pieces{t: t}
	for number := range rapid.IntRange(1, 5).Draw(t, "exchanges") {
		x := exchange{Header: drawHeader(t)}
		if !x.Header.Local {
			x.Content, x.Over = drawContent(t)
		}
		header, err := x.Header.Append(nil, wire.Native)
		if err != nil {
			t.Fatal(err)
		}
		if key != nil {
			header = wire.Seal(header, key, uint64(number))
		}
		if number > 0 {
			header = wire.AppendFrame(nil, wire.KindHeader, header...)
		}
		p.stream = append(append(p.stream, header...), x.frames(t)...)
		sent = append(sent, x)
	}
	var have []byte
	for number, want := range sent {
		var got exchange
		h, rest := p.header(func(r io.Reader) (wire.Header, wire.Form, error) {
			switch {
			case number > 0:
				return wire.ReadNext(r, key, uint64(number))
			case key != nil:
				return wire.ReadSealed(r, key, 0)
			}
			return wire.Read(r)
		}, have)
		if have = rest; !h.Local {
			got, have = p.direction(false, have)
		}
		got.Header = h
		compare(t, got, want)
	}
	if len(have) > 0 || p.at < len(p.stream) {
		t.Fatalf("%d bytes are behind the last exchange", len(have)+len(p.stream)-p.at)
	}
}

// TestExchangesDown is TestExchangesUp for the answers. A bye is behind the last one.
func TestExchangesDown(t *testing.T) {
	rapid.Check(t, exchangesDown)
}

func exchangesDown(t *rapid.T) {
	var sent []exchange
	p := pieces{t: t}
	for range rapid.IntRange(1, 5).Draw(t, "exchanges") {
		x := exchange{Status: wire.Status(rapid.ByteMax(byte(wire.Banned)).Draw(t, "status")), Over: wire.Refusal}
		p.stream = append(p.stream, status(x.Status)...)
		if x.Status == wire.Connected {
			x.Content, x.Over = drawContent(t)
			p.stream = append(p.stream, x.frames(t)...)
		}
		sent = append(sent, x)
	}
	p.stream = wire.AppendFrame(p.stream, wire.KindBye)
	sent = append(sent, exchange{Over: wire.Bye})
	var have []byte
	for _, want := range sent {
		var got exchange
		got, have = p.direction(true, have)
		compare(t, got, want)
	}
	if len(have) > 0 || p.at < len(p.stream) {
		t.Fatalf("%d bytes are behind the last exchange", len(have)+len(p.stream)-p.at)
	}
}
