package wire_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/wire"
)

// protocol returns the text of PROTOCOL.md.
func protocol(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// fenced returns what stands between ```tag and ```.
func fenced(t *testing.T, doc, tag string) string {
	t.Helper()
	_, rest, ok := strings.Cut(doc, "\n```"+tag+"\n")
	block, _, closed := strings.Cut(rest, "```")
	if !ok || !closed {
		t.Fatalf("PROTOCOL.md has no block %q", tag)
	}
	return block
}

// unhex returns the bytes of a hex block, which may have comments.
func unhex(t *testing.T, block string) string {
	t.Helper()
	b, err := hex.DecodeString(regexp.MustCompile(`#.*|\s`).ReplaceAllString(block, ""))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The examples in PROTOCOL.md are what Append writes, and Read reads them.
func TestProtocolExamples(t *testing.T) {
	doc := protocol(t)
	h := claim("203.0.113.7:51234", "192.0.2.1:443")
	for f, want := range map[wire.Form]string{
		wire.Native: unhex(t, fenced(t, doc, "hex native")),
		wire.V1:     strings.ReplaceAll(fenced(t, doc, "text v1"), "\n", "\r\n"),
		wire.Py:     fenced(t, doc, "text py"),
	} {
		if diff := cmp.Diff([]byte(want), mustAppend(t, h, f)); diff != "" {
			t.Errorf("%v: PROTOCOL.md differs from Append (-doc +code):\n%s", f, diff)
		}
		got, form, err := wire.Read(strings.NewReader(want))
		if err != nil || form != f {
			t.Errorf("Read of the %v example: form %v, %v", f, form, err)
		}
		wantHeader(t, got, carried(h, f))
	}
	mixed := claim("203.0.113.7:51234", "[2001:db8::1]:443")
	addr := string(bytes.Fields(mustAppend(t, mixed, wire.V1))[2])
	if !strings.Contains(doc, "`"+addr+"`") {
		t.Errorf("PROTOCOL.md does not show %s, which is what v1 writes for %v", addr, mixed.Source.Addr())
	}
}

// The status table in PROTOCOL.md is the one in the code, in the same order.
func TestProtocolStatusTable(t *testing.T) {
	_, table, ok := strings.Cut(protocol(t), "\n## Status\n")
	if !ok {
		t.Fatal("PROTOCOL.md has no section Status")
	}
	var got []string
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+) \| ([a-z ]+) \|`).FindAllStringSubmatch(table, -1) {
		got = append(got, row[1]+" "+row[2])
	}
	var want []string
	for s := wire.Connected; s <= wire.Banned; s++ {
		want = append(want, fmt.Sprintf("%d %v", byte(s), s))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("statuses differ (-code +doc):\n%s", diff)
	}
}

// The lengths in the table of forms are those of the shortest and of the longest
// header that Read takes.
func TestProtocolLengths(t *testing.T) {
	doc := protocol(t)
	for f, headers := range map[wire.Form][2]string{
		wire.V2: {
			v2(0x20, 0x00),
			v2(0x21, 0x11, addrs4, tlv(0x04, strings.Repeat("\x00", 4096-len(addrs4)-3))),
		},
		wire.V1: {
			"PROXY UNKNOWN\r\n",
			"PROXY UNKNOWN " + strings.Repeat("x", 107-len("PROXY UNKNOWN \r\n")) + "\r\n",
		},
		wire.Py: {"1.1.1.1:1:1\n", "223.255.255.255:65535:65535\n"},
	} {
		for _, h := range headers {
			if _, form, err := wire.Read(strings.NewReader(h)); err != nil || form != f {
				t.Errorf("Read of %d bytes of %v: %v, %v", len(h), f, form, err)
			}
		}
		row := regexp.MustCompile(`(?m)^\| ` + f.String() + ` \|.*\| (\d+) to (\d+) bytes \|`).FindStringSubmatch(doc)
		if row == nil {
			t.Fatalf("PROTOCOL.md has no lengths for %v", f)
		}
		want := []string{strconv.Itoa(len(headers[0])), strconv.Itoa(len(headers[1]))}
		if diff := cmp.Diff(want, row[1:]); diff != "" {
			t.Errorf("lengths of %v differ (-code +doc):\n%s", f, diff)
		}
	}
}

// The names and kinds in the table of frames are those in the code.
func TestProtocolFrameTable(t *testing.T) {
	_, table, ok := strings.Cut(protocol(t), "\n## Frames\n")
	if !ok {
		t.Fatal("PROTOCOL.md has no section Frames")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	var got []string
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+) \| ([a-z]+) \|`).FindAllStringSubmatch(table, -1) {
		got = append(got, row[1]+" "+row[2])
	}
	want := []string{
		fmt.Sprint(wire.KindHeader, " header"), fmt.Sprint(wire.KindStatus, " status"), fmt.Sprint(wire.KindData, " data"),
		fmt.Sprint(wire.KindEnd, " end"), fmt.Sprint(wire.KindReset, " reset"), fmt.Sprint(wire.KindBye, " bye"),
		fmt.Sprint(wire.KindFinding, " finding"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kinds of frames differ (-code +doc):\n%s", diff)
	}
	if most := fmt.Sprintf("1 to %d bytes", wire.MaxData); !strings.Contains(table, most) {
		t.Errorf("PROTOCOL.md does not say that a data frame has %s", most)
	}
}

// linkExample returns what each end writes on the link in PROTOCOL.md.
func linkExample(t *testing.T) (up, down string) {
	t.Helper()
	doc := protocol(t)
	check := mustAppend(t, wire.Header{Local: true, ID: testID}, wire.Native)
	block := strings.NewReplacer(
		"HEADER", hex.EncodeToString([]byte(unhex(t, fenced(t, doc, "hex native")))),
		"CHECK", hex.EncodeToString(check),
	).Replace(fenced(t, doc, "hex link"))
	for line := range strings.Lines(block) {
		switch line[0] {
		case '>':
			up += unhex(t, line[1:])
		case '<':
			down += unhex(t, line[1:])
		case '#', '\n':
		default:
			t.Errorf("PROTOCOL.md: %q is of neither direction", line)
		}
	}
	return up, down
}

// The link in PROTOCOL.md carries what the text says.
func TestProtocolLink(t *testing.T) {
	up, down := linkExample(t)
	peer := claim("203.0.113.7:51234", "192.0.2.1:443")
	local := wire.Header{Local: true, ID: testID}
	for i, x := range []struct {
		header   wire.Header
		up, down decoded
	}{
		{peer, decoded{Content: "hi", Over: wire.Ended}, decoded{Known: true, Content: "ho", Over: wire.Ended}},
		{peer, decoded{Content: "hi", Over: wire.Reset}, decoded{Known: true, Status: wire.Refused, Over: wire.Refusal}},
		{peer, decoded{Over: wire.Reset}, decoded{Known: true, Over: wire.Reset}},
		{peer, decoded{Over: wire.Reset}, decoded{Known: true, Status: wire.Banned, Over: wire.Refusal, Ban: wire.Ban{Left: time.Minute, Bits: 32}}},
		{local, decoded{}, decoded{Known: true}},
		{peer, decoded{}, decoded{Over: wire.Bye}},
	} {
		r := strings.NewReader(up)
		h, form, err := wire.Read(r)
		if i > 0 {
			r.Reset(up)
			h, form, err = wire.ReadNext(r, nil, 0)
		}
		if err != nil || form != wire.Native {
			t.Fatalf("header %d: form %v, error %v", i, form, err)
		}
		wantHeader(t, h, carried(x.header, wire.Native))
		up = up[len(up)-r.Len():]
		if !h.Local {
			up = next(t, decode(t, false, up), x.up)
			down = next(t, decode(t, true, down), x.down)
			continue
		}
		const answer = wire.FrameHead + 1
		next(t, decode(t, true, down[:answer]), x.down)
		down = down[answer:]
	}
	if up != "" || down != "" {
		t.Errorf("%x and %x are behind the last exchange", up, down)
	}
}

// next compares a direction of an exchange, and returns what follows it.
func next(t *testing.T, got, want decoded) string {
	t.Helper()
	want.Rest = got.Rest
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("an exchange differs (-text +example):\n%s", diff)
	}
	return got.Rest
}

// The seals in PROTOCOL.md are what Seal writes.
func TestProtocolSeals(t *testing.T) {
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(i)
	}
	for i, line := range strings.Split(strings.TrimSpace(fenced(t, protocol(t), "hex seals")), "\n") {
		b := wire.Seal(mustAppend(t, claim("203.0.113.7:51234", "192.0.2.1:443"), wire.Native), key, uint64(i))
		if diff := cmp.Diff([]byte(unhex(t, line)), b[len(b)-32:]); diff != "" {
			t.Errorf("header %d: PROTOCOL.md differs from Seal (-doc +code):\n%s", i, diff)
		}
	}
}
