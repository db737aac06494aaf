package e2e_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"math"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
)

// many stands for no limit.
const many = math.MaxInt

// attackers is the number of addresses with which an attacker reaches the limit on all peers together.
const attackers = 4

// TestHostileSilence has attackers with thousands of connections that say nothing.
func TestHostileSilence(t *testing.T) {
	silence := func(ctx context.Context, m *mallory) { m.hold(ctx, horde, nil) }
	t.Run("four attackers", func(t *testing.T) {
		t.Parallel()
		newSiege(t, attackers, "", "").withstand(t, silence, "unfinished")
	})
	t.Run("one attacker, keys", func(t *testing.T) {
		t.Parallel()
		k := newKeys(t)
		newSiege(t, 1, k.server, k.client).withstand(t, silence, "unfinished")
	})
}

// TestHostileSlowness has thousands of connections, each of which says one byte a second of a header that would be good.
func TestHostileSlowness(t *testing.T) {
	for name, keyed := range map[string]bool{"one attacker": false, "four attackers, keys": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s *siege
			if k := newKeys(t); keyed {
				s = newSiege(t, attackers, "--header-timeout 3s "+k.server, k.client)
			} else {
				s = newSiege(t, 1, "--header-timeout 3s", "")
			}
			head, err := wire.Header{Source: addrPort(t, "203.0.113.99:1"), Destination: addrPort(t, "203.0.113.1:80")}.Append(nil, wire.V1)
			nstest.Must(t, err)
			s.withstand(t, func(ctx context.Context, m *mallory) {
				held := m.hold(ctx, horde, head[:1])
				for _, b := range head[1:5] {
					for _, c := range held {
						if c != nil {
							_, _ = c.Write([]byte{b})
						}
					}
					time.Sleep(time.Second)
				}
			}, "header")
		})
	}
}

// TestHostileNoise has lines and bytes that mean nothing, as fast as it goes: many to a connection, and one to each of many.
func TestHostileNoise(t *testing.T) {
	t.Parallel()
	binaries := make([]byte, 64<<10)
	_, err := io.ReadFull(random(), binaries)
	nstest.Must(t, err)
	says := [][]byte{
		bytes.Repeat([]byte("GET /robots.txt HTTP/1.1\r\n"), 2000),
		[]byte("EHLO mallory.example\r\n"),
		binaries,
	}
	newSiege(t, attackers, "", "").withstand(t, func(ctx context.Context, m *mallory) {
		storm(ctx, many, func(i int) {
			if i%len(says) == 2 {
				m.wantAnswer(ctx, i, "noise", append([]byte{byte(i) | 0x80}, binaries...), "")
				return
			}
			m.wantAnswer(ctx, i, "noise", says[i%len(says)], "")
		})
	}, "header")
}

// TestHostileHeaders has headers that are almost right.
func TestHostileHeaders(t *testing.T) {
	t.Parallel()
	malformed := malformedHeaders(t)
	newSiege(t, attackers, "", "").withstand(t, func(ctx context.Context, m *mallory) {
		storm(ctx, many, func(i int) {
			h := malformed[i%len(malformed)]
			m.wantAnswer(ctx, i, h.name, h.head, h.answer)
		})
	}, "header")
}

// badHeader is a header that must be refused, even if nothing follows it.
type badHeader struct {
	name   string
	head   []byte
	answer string
}

// anything stands for any answer, such as a TLS alert.
const anything = "anything"

func malformedHeaders(t *testing.T) []badHeader {
	t.Helper()
	peer := wire.Header{Source: addrPort(t, "203.0.113.99:20000"), Destination: addrPort(t, "203.0.113.1:80"), Answer: true, ID: wire.NewID()}
	native, err := peer.Append(nil, wire.Native)
	nstest.Must(t, err)
	peer.Destination = addrPort(t, "203.0.113.1:9")
	discard, err := peer.Append(nil, wire.V2)
	nstest.Must(t, err)
	// v2 is a header that announces so many bytes behind its addresses.
	v2 := func(announced int, rest ...byte) []byte {
		b := append(bytes.Clone(native[:16+12]), rest...)
		binary.BigEndian.PutUint16(b[14:], uint16(12+announced))
		return b
	}
	full := func(rest ...byte) []byte { return v2(len(rest), rest...) }
	changed := func(at int, to byte) []byte {
		b := bytes.Clone(native)
		b[at] = to
		return b
	}
	tiny := func(kind byte) []byte { return bytes.Repeat([]byte{kind, 0, 0}, (4096-12)/3) }
	valid := bytes.Clone(discard)
	valid = append(valid, tiny(0x04)...)
	binary.BigEndian.PutUint16(valid[14:], uint16(len(valid)-16))
	return []badHeader{
		{"v2 of 65535 bytes", append(v2(65535-12), make([]byte, 8192)...), ""},
		{"v2 of 4097 bytes", v2(4097 - 12), ""},
		{"v2 shorter than its addresses", v2(-1), ""},
		{"v2 of another version", changed(12, 0x31), ""},
		{"v2 of another command", changed(12, 0x22), ""},
		{"v2 of another family", changed(13, 0x31), ""},
		{"v2 with bytes left over", full(4, 0), ""},
		{"v2 with a TLV that ends beyond it", full(4, 0, 1), ""},
		{"v2 with a TLV of 65535 bytes", full(4, 255, 255, 0), ""},
		{"v2 with a short checksum", full(3, 0, 2, 0, 0), ""},
		{"v2 with a wrong checksum", full(3, 0, 4, 1, 2, 3, 4), ""},
		{"v2 with two checksums", full(3, 0, 4, 1, 2, 3, 4, 3, 0, 4, 1, 2, 3, 4), ""},
		{"v2 with a thousand checksums", full(tiny(3)...), ""},
		{"v2 with a thousand TLVs, and no service", valid, ""},
		{"v2 with a thousand TLVs and a wrong checksum", full(append(tiny(4)[:4000/3*3], 3, 0, 4, 1, 2, 3, 4)...), ""},
		{"native without a checksum", full(append([]byte{0xe0, 0, 15}, "portredirector\x01"...)...), ""},
		{"native with another checksum", changed(16+12+3, native[16+12+3]+1), ""},
		{"native with another peer", changed(16+3, 1), ""},
		{"a TLS hello", clientHello(t), ""},
		{"v1 without an end", []byte("PROXY TCP4 " + strings.Repeat("1", 200)), ""},
		{"v1 of nobody without an end", []byte("PROXY UNKNOWN " + strings.Repeat("x", 8192)), ""},
		{"v1 with too many fields", []byte("PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n"), ""},
		{"v1 with a bare LF", []byte("PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n" + strings.Repeat(" ", 100)), ""},
		{"py without an end", []byte(strings.Repeat("1", 8192)), ""},
		{"py without an end of its port", []byte("1.2.3.4:5:" + strings.Repeat("6", 100)), ""},
		{"py with an address only", []byte("1.2.3.4\n     "), ""},
	}
}

// TestHostileHandshakes has a server with keys, and those who have none of them.
func TestHostileHandshakes(t *testing.T) {
	hello := clientHello(t)
	oversized := append(bytes.Clone(hello), make([]byte, 70_000)...)
	binary.BigEndian.PutUint16(oversized[3:], 65535)

	whole := horde
	if raceDetector {
		whole = 1000 // the answers take so much longer that there would be no time for anybody else
	}
	for name, tt := range map[string]struct {
		said   []byte
		n      int
		option string
	}{
		"half a hello, and silence": {hello[:len(hello)/2], horde, ""},
		// On a busy machine so few are not all there at once, so the bound is lower.
		"a hello, and silence": {hello, whole, " --max-handshakes 128"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKeys(t)
			newSiege(t, attackers, k.server+tt.option, k.client).withstand(t, func(ctx context.Context, m *mallory) {
				m.hold(ctx, tt.n, tt.said)
			}, "handshakes")
		})
	}

	t.Run("what is no hello", func(t *testing.T) {
		t.Parallel()
		says := append(plainHeaders(t), badHeader{"a record of 65535 bytes", oversized, anything})
		k := newKeys(t)
		newSiege(t, attackers, k.server, k.client).withstand(t, func(ctx context.Context, m *mallory) {
			storm(ctx, many, func(i int) {
				h := says[i%len(says)]
				m.wantAnswer(ctx, i, h.name, h.head, h.answer)
			})
		}, "authorization", "proof")
	})

	t.Run("a key that the server does not know", func(t *testing.T) {
		t.Parallel()
		k := newKeys(t)
		stranger := strangerConfig(t)
		s := newSiege(t, attackers, k.server, k.client)
		s.withstand(t, func(ctx context.Context, m *mallory) {
			storm(ctx, many, func(i int) {
				c := m.open(ctx, i, nil)
				if c == nil {
					return
				}
				defer func() { _ = c.Close() }()
				got, err := io.ReadAll(tls.Client(c, stranger))
				if err != nil || string(got) != string(byte(wire.NotAuthorized)) {
					m.problem("a stranger is told %q (%v)", got, err)
				}
			})
		}, "authorization")
		told := make(map[string]int)
		for line := range strings.Lines(s.server.Output()) {
			if _, rest, refused := strings.Cut(line, `level=WARN msg="link refused" link=`); refused && strings.Contains(rest, "key is not known here") {
				from, _, _ := strings.Cut(rest, ":")
				told[from]++
			}
		}
		for _, a := range s.mallory.addrs {
			if n := told[a.String()]; n != 1 {
				t.Errorf("%v was told %d times, want once", a, n)
			}
		}
	})
}

// plainHeaders returns valid headers of each form, which a server with keys must refuse.
func plainHeaders(t *testing.T) (list []badHeader) {
	t.Helper()
	peer := wire.Header{Source: addrPort(t, "203.0.113.99:20000"), Destination: addrPort(t, "203.0.113.1:80"), Answer: true, ID: wire.NewID()}
	for _, form := range []wire.Form{wire.Native, wire.V2, wire.V1, wire.Py} {
		head, err := peer.Append(nil, form)
		nstest.Must(t, err)
		answer := ""
		if form == wire.Native {
			answer = string(wire.AppendFrame(nil, wire.KindStatus, byte(wire.NotAuthorized)))
			head = wire.AppendFrame(wire.AppendFrame(head, wire.KindEnd), wire.KindEnd) // of which the second is wrong
		}
		list = append(list, badHeader{form.String(), head, answer})
	}
	return list
}

// strangerConfig returns the TLS configuration of a client with an unknown key.
func strangerConfig(t *testing.T) *tls.Config {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	nstest.Must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(nil, template, template, public, private)
	nstest.Must(t, err)
	return &tls.Config{
		MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, NextProtos: []string{"portredirector/1"},
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: private}},
	}
}

// clientHello returns the first message of such a client.
func clientHello(t *testing.T) []byte {
	t.Helper()
	client, server := net.Pipe()
	config := strangerConfig(t)
	var running sync.WaitGroup
	running.Go(func() { _ = tls.Client(client, config).Handshake() })
	hello := make([]byte, 5)
	_, err := io.ReadFull(server, hello)
	nstest.Must(t, err)
	hello = append(hello, make([]byte, binary.BigEndian.Uint16(hello[3:]))...)
	_, err = io.ReadFull(server, hello[5:])
	nstest.Must(t, err)
	nstest.Must(t, server.Close())
	running.Wait()
	return hello
}
