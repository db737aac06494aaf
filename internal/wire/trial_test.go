package wire_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/wire"
)

func trial(source string, port uint16) wire.Header {
	return wire.Header{
		Local: true, Trial: true, ID: testID,
		Source: netip.MustParseAddrPort(source), Destination: netip.AddrPortFrom(netip.Addr{}, port),
	}
}

// TestTrialRoundTrip wants a trial to arrive as it was sent, whatever its length, sealed or not.
func TestTrialRoundTrip(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	for _, source := range []string{"192.0.2.77:40001", "[2001:db8::77]:1"} {
		h := trial(source, 443)
		h.TrialUDP = source[0] == '['
		for _, size := range []int{0, 80, 536, 1500, wire.MostTrial, 1 << 20} {
			b := wire.Pad(mustAppend(t, h, wire.Native), size)
			if size >= 536 && len(b) != min(size, wire.MostTrial) {
				t.Errorf("%d bytes, want %d", len(b), size)
			}
			got, form, err := wire.Read(bytes.NewReader(b))
			if err != nil || form != wire.Native {
				t.Fatalf("%s, %d bytes: form %v, %v", source, size, form, err)
			}
			wantHeader(t, got, carried(h, wire.Native))
			got, _, err = wire.ReadSealed(bytes.NewReader(wire.Seal(b, key, 3)), key, 3)
			if err != nil {
				t.Fatalf("sealed, %d bytes: %v", size, err)
			}
			wantHeader(t, got, carried(h, wire.Native))
		}
	}
}

// TestTrialOfOthers wants E4 of other senders to be skipped.
func TestTrialOfOthers(t *testing.T) {
	const value = "\xc0\x00\x02\x4d\x9c\x41\x01\xbb"
	for name, in := range map[string]string{
		"no answer":       v2(0x20, 0x00, tlv(0xe4, value)),
		"another length":  signed(v2(0x20, 0x00, tlv(0x03, "CRC!"), answerMe, tlv(0xe4, value+"x"))),
		"port 0":          signed(v2(0x20, 0x00, tlv(0x03, "CRC!"), answerMe, tlv(0xe4, value[:6]+"\x00\x00"))),
		"a claim":         signed(v2(0x21, 0x11, addrs4, tlv(0x03, "CRC!"), answerMe, tlv(0xe4, value))),
		"a mapped source": signed(v2(0x20, 0x00, tlv(0x03, "CRC!"), answerMe, tlv(0xe2, strings.Repeat("\x00", 10)+"\xff\xff"+value))),
	} {
		if h, _, err := wire.Read(strings.NewReader(in)); err != nil || h.Trial {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
}

// TestFinding wants a finding to arrive, and to be as long as asked for.
func TestFinding(t *testing.T) {
	want := wire.Finding{Works: true, Outcome: "holds", Service: "127.0.0.1:80", Source: "192.0.2.77", Time: time.Unix(1, 0).UTC()}
	for _, size := range []int{0, 4000, 1 << 20} {
		b, err := want.Append(nil, size)
		if err != nil {
			t.Fatal(err)
		}
		n := int(binary.BigEndian.Uint32(b) & wire.MaxData)
		if b[0] != byte(wire.KindFinding) || n != len(b)-wire.FrameHead || size > 0 && n != min(size, wire.MostFinding) {
			t.Errorf("size %d: kind %d, %d bytes of %d", size, b[0], n, len(b))
		}
		got, err := wire.ParseFinding(b[wire.FrameHead:])
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("finding differs (-want +got):\n%s", diff)
		}
	}
	if _, err := wire.ParseFinding([]byte("no")); err == nil {
		t.Error("no JSON is taken")
	}
}

// TestProtocolTrial compares the trial in PROTOCOL.md with the code.
func TestProtocolTrial(t *testing.T) {
	doc := protocol(t)
	want := unhex(t, fenced(t, doc, "hex trial"))
	if diff := cmp.Diff([]byte(want), mustAppend(t, trial("192.0.2.77:40001", 443), wire.Native)); diff != "" {
		t.Errorf("PROTOCOL.md differs from Append (-doc +code):\n%s", diff)
	}
	f := wire.Finding{
		Works: true, Outcome: "the return route holds", Service: "127.0.0.1:443", Source: "192.0.2.77", Time: time.Unix(1.8e9, 0).UTC(),
	}
	answer, err := f.Append(nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	answer = wire.AppendFrame(answer, wire.KindStatus, byte(wire.Connected))
	if diff := cmp.Diff([]byte(unhex(t, fenced(t, doc, "hex trial-answer"))), answer); diff != "" {
		t.Errorf("PROTOCOL.md differs from Finding.Append (-doc +code):\n%s", diff)
	}
}
