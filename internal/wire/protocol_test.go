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

// The examples in PROTOCOL.md are what Append writes, and Read reads them.
func TestProtocolExamples(t *testing.T) {
	doc := protocol(t)
	native := regexp.MustCompile(`#.*|\s`).ReplaceAllString(fenced(t, doc, "hex native"), "")
	raw, err := hex.DecodeString(native)
	if err != nil {
		t.Fatal(err)
	}
	h := claim("203.0.113.7:51234", "192.0.2.1:443")
	for f, want := range map[wire.Form]string{
		wire.Native: string(raw),
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
	for s := wire.Connected; s <= wire.Busy; s++ {
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
