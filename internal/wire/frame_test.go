package wire_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/wire"
)

// frame writes a frame, independently of AppendFrame.
func frame(k wire.Kind, content string) string {
	n := len(content)
	return string([]byte{byte(k), byte(n >> 16), byte(n >> 8), byte(n)}) + content
}

// status writes the frame of a status.
func status(s wire.Status) string {
	if s == wire.Banned {
		return string(wire.AppendBan(nil, wire.Ban{Left: time.Hour, Bits: 64}))
	}
	return frame(wire.KindStatus, string([]byte{byte(s)}))
}

var (
	connected = status(wire.Connected)
	end       = frame(wire.KindEnd, "")
	reset     = frame(wire.KindReset, "")
	bye       = frame(wire.KindBye, "")
)

// data writes a data frame.
func data(content string) string { return frame(wire.KindData, content) }

// decoded has the results of a Decoder at the end of its input.
type decoded struct {
	Content, Rest string
	Over          wire.Terminator
	Status        wire.Status
	Known, Failed bool
	Ban           wire.Ban
}

// decode decodes pieces, one after another.
func decode(tb testing.TB, answer bool, pieces ...string) decoded {
	tb.Helper()
	d, got := wire.Decoder{Answer: answer}, decoded{}
	for i, piece := range pieces {
		b := []byte(piece)
		content, rest, err := d.Decode(b)
		if content < 0 || rest < 0 || content+rest > len(b) {
			tb.Fatalf("Decode returns %d and %d of %d bytes", content, rest, len(b))
		}
		got.Content += string(b[:content])
		got.Failed = err != nil
		if err != nil && !errors.Is(err, wire.ErrFrame) {
			tb.Fatalf("error %v, want %v", err, wire.ErrFrame)
		}
		if got.Failed {
			break
		}
		if d.Over() != 0 {
			got.Rest = string(b[len(b)-rest:]) + strings.Join(pieces[i+1:], "")
			break
		}
		if rest != 0 {
			tb.Fatalf("%d bytes are behind an exchange that is not over", rest)
		}
	}
	got.Over = d.Over()
	got.Status, got.Known = d.Status()
	got.Ban = d.Ban()
	return got
}

// allFrames returns frames of every kind, known or not, each with several contents.
func allFrames() []string {
	var all []string
	for _, k := range []wire.Kind{0, 1, 2, 3, 4, 5, 6, 7, 'H', 255} {
		for _, content := range []string{"", "\x00", "\x01", "\x08", "\x09", "\xff", "\x00\x00", "\x09\x3c\x40", "\x08\x3c\x40"} {
			all = append(all, frame(k, content))
		}
	}
	return all
}

// TestDecoder gives every frame to every state. What the state does not allow is refused.
func TestDecoder(t *testing.T) {
	open := map[string]decoded{
		end:                  {Over: wire.Ended},
		reset:                {Over: wire.Reset},
		data("\x00"):         {Content: "\x00"},
		data("\x01"):         {Content: "\x01"},
		data("\x08"):         {Content: "\x08"},
		data("\x09"):         {Content: "\x09"},
		data("\xff"):         {Content: "\xff"},
		data("\x00\x00"):     {Content: "\x00\x00"},
		data("\x09\x3c\x40"): {Content: "\x09\x3c\x40"},
		data("\x08\x3c\x40"): {Content: "\x08\x3c\x40"},
	}
	unanswered := map[string]decoded{
		connected:            {Known: true},
		status(wire.Refused): {Known: true, Status: wire.Refused, Over: wire.Refusal},
		status(wire.Busy):    {Known: true, Status: wire.Busy, Over: wire.Refusal},
		status(wire.Banned):  {Known: true, Status: wire.Banned, Over: wire.Refusal, Ban: wire.Ban{Left: time.Minute, Bits: 64}},
		bye:                  {Over: wire.Bye},
	}
	states := map[string]struct {
		answer  bool
		before  string
		content string // of before
		allowed map[string]decoded
	}{
		"up":                {false, "", "", open},
		"up, behind data":   {false, data("xyz"), "xyz", open},
		"down, unanswered":  {true, "", "", unanswered},
		"down, answered":    {true, connected, "", open},
		"down, behind data": {true, connected + data("xyz"), "xyz", open},
	}
	for name, s := range states {
		for _, f := range allFrames() {
			t.Run(fmt.Sprintf("%s/%x", name, f), func(t *testing.T) {
				want, ok := s.allowed[f]
				want.Failed = !ok
				want.Content = s.content + want.Content
				want.Known = want.Known || strings.HasPrefix(s.before, connected)
				if diff := cmp.Diff(want, decode(t, s.answer, s.before+f)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}

// directions holds directions of exchanges, and bytes behind some of them.
var directions = []struct {
	answer bool
	in     string
	want   decoded
}{
	{false, "", decoded{}},
	{false, end, decoded{Over: wire.Ended}},
	{false, reset + end, decoded{Over: wire.Reset, Rest: end}},
	{false, data("abc") + data("d") + end, decoded{Content: "abcd", Over: wire.Ended}},
	{false, data("abc") + reset + frame(wire.KindHeader, "next"), decoded{Content: "abc", Over: wire.Reset, Rest: frame(wire.KindHeader, "next")}},
	{false, data(end) + data(reset) + end + "rest", decoded{Content: end + reset, Over: wire.Ended, Rest: "rest"}},
	{false, data("abc") + bye, decoded{Content: "abc", Failed: true}},
	{false, data("abc") + data("")[:4], decoded{Content: "abc", Failed: true}},
	{true, connected, decoded{Known: true}},
	{true, connected + data("abc"), decoded{Known: true, Content: "abc"}},
	{true, connected + end + bye, decoded{Known: true, Over: wire.Ended, Rest: bye}},
	{true, connected + data("a") + data("bc") + reset, decoded{Known: true, Content: "abc", Over: wire.Reset}},
	{true, status(wire.Draining) + bye, decoded{Known: true, Status: wire.Draining, Over: wire.Refusal, Rest: bye}},
	{true, bye + "rest", decoded{Over: wire.Bye, Rest: "rest"}},
	{true, connected + connected, decoded{Known: true, Failed: true}},
	{true, "HTTP/1.1 200 OK\r\n", decoded{Failed: true}},
}

// TestDecoderSplits decodes directions in up to three pieces, and byte by byte: where the
// bytes are split makes no difference.
func TestDecoderSplits(t *testing.T) {
	for _, d := range directions {
		t.Run(fmt.Sprintf("%x", d.in), func(t *testing.T) {
			check := func(pieces ...string) {
				t.Helper()
				got := decode(t, d.answer, pieces...)
				if diff := cmp.Diff(d.want, got); diff != "" {
					t.Errorf("%q (-want +got):\n%s", pieces, diff)
				}
			}
			check(strings.Split(d.in, "")...)
			for i := range len(d.in) + 1 {
				for j := i; j <= len(d.in); j++ {
					check(d.in[:i], d.in[i:j], d.in[j:])
				}
			}
		})
	}
}

// TestDecoderLeavesContent takes the content of data frames past the decoder, as splice
// does, and reads what is Missing between: no byte of content and nothing behind the
// exchange is read.
func TestDecoderLeavesContent(t *testing.T) {
	for _, dir := range directions {
		if dir.want.Failed || dir.want.Over == 0 {
			continue
		}
		t.Run(fmt.Sprintf("%x", dir.in), func(t *testing.T) {
			d, in, spliced := wire.Decoder{Answer: dir.answer}, dir.in, ""
			for d.Over() == 0 {
				n := d.Left()
				spliced, in = spliced+in[:n], in[n:]
				d.Skip(n)
				n = d.Missing()
				if n == 0 {
					t.Fatal("nothing is missing, but the exchange is not over")
				}
				content, rest, err := d.Decode([]byte(in[:n]))
				if content != 0 || rest != 0 || err != nil {
					t.Fatalf("%q: %d bytes of content, %d behind the exchange, error %v", in[:n], content, rest, err)
				}
				in = in[n:]
			}
			if spliced != dir.want.Content || in != dir.want.Rest {
				t.Errorf("content is %q and the rest %q, want %q and %q", spliced, in, dir.want.Content, dir.want.Rest)
			}
		})
	}
}

// TestDecoderStaysRefused gives good frames to a decoder that has refused one.
func TestDecoderStaysRefused(t *testing.T) {
	for _, f := range []string{frame(0, ""), frame(wire.KindHeader, "x"), status(99), data("")} {
		d := wire.Decoder{Answer: true}
		for range 2 {
			if _, _, err := d.Decode([]byte(f + connected)); !errors.Is(err, wire.ErrFrame) {
				t.Errorf("%x: error %v, want %v", f, err, wire.ErrFrame)
			}
		}
	}
}

// TestHeads writes heads of frames.
func TestHeads(t *testing.T) {
	for n, want := range map[int]string{
		0:            "\x03\x00\x00\x00",
		1:            "\x03\x00\x00\x01",
		0x0203:       "\x03\x00\x02\x03",
		0x010203:     "\x03\x01\x02\x03",
		wire.MaxData: "\x03\xff\xff\xff",
	} {
		b := make([]byte, wire.FrameHead)
		wire.PutHead(b, wire.KindData, n)
		appended := wire.AppendHead([]byte("before"), wire.KindData, n)
		if string(b) != want || string(appended) != "before"+want {
			t.Errorf("%d: PutHead writes %x, AppendHead %x, want %x", n, b, appended, want)
		}
		var d wire.Decoder
		if _, _, err := d.Decode(b); n > 0 && (err != nil || d.Left() != n) {
			t.Errorf("%d: %d bytes are left, error %v", n, d.Left(), err)
		}
	}
	if got := string(wire.AppendFrame([]byte("before"), wire.KindStatus, 7)); got != "before"+status(7) {
		t.Errorf("AppendFrame writes %q", got)
	}
}
