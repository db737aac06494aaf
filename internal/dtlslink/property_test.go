package dtlslink

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"portredirector/internal/wire"
)

// shelf is a packetConn that keeps what is sent.
type shelf struct{ sent [][]byte }

func (s *shelf) send(list []datagram) int {
	for _, d := range list {
		s.sent = append(s.sent, bytes.Clone(d.b))
	}
	return 0
}

func (*shelf) receive() ([]datagram, error) { return nil, nil }
func (*shelf) stopReading()                 {}
func (*shelf) most() int                    { return plainSize }
func (*shelf) Close() error                 { return nil }

// half is a link to which only one direction leads.
func half(t rapid.TB, conn packetConn, h Handler) (sends, receives *Link) {
	t.Helper()
	key, id := make([]byte, keySize+saltSize), cid{1, 2, 3}
	_, _ = rand.Read(key)
	protect := func() *protector {
		p, err := newProtector(key[:keySize], key[keySize:], id)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	seal, open := &sealer{protect(), epoch1 | firstNumber}, &opener{protector: protect()}
	link := func() *Link {
		l := newLink(&handshake{}, keys{seal, open}, &Link{conn: conn, handler: h, times: quickTimes, onOpen: func() {}})
		l.handshake = nil
		return l
	}
	return link(), link()
}

// checker is a Handler that compares what arrives with what was sent.
type checker struct {
	t    rapid.TB
	sent map[string]int // messages under way, by kind, flow and content
	n    int
}

func keyOf(kind string, flow uint32, b []byte) string { return fmt.Sprintf("%s %d %x", kind, flow, b) }

func (c *checker) arrive(kind string, flow uint32, b []byte) {
	k := keyOf(kind, flow, b)
	if c.sent[k] == 0 {
		c.t.Fatalf("%.80s arrives and is not under way", k)
	}
	c.sent[k]--
	c.n++
}
func (c *checker) Opened(*Link)                         {}
func (c *checker) Retired(*Link)                        {}
func (c *checker) Closed(*Link, error)                  {}
func (c *checker) First(_ *Link, flow uint32, b []byte) { c.arrive("first", flow, b) }
func (c *checker) Data(_ *Link, flow uint32, b []byte)  { c.arrive("data", flow, b) }
func (c *checker) End(_ *Link, flow uint32, s wire.Status, seconds uint32) {
	c.arrive("end", flow, binary.BigEndian.AppendUint32([]byte{byte(s)}, seconds))
}
func (c *checker) Flush() {}

// TestDelivered: over a path that loses, repeats, reorders and damages datagrams, what
// arrives was sent, arrives once, and to its flow. Over a good path everything arrives, in
// order.
func TestDelivered(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		conn, c := &shelf{}, &checker{t: t, sent: make(map[string]int)}
		sends, receives := half(t, conn, c)
		number := 0
		content := func() []byte {
			size := rapid.SampledFrom([]int{0, 4, 1200, 1300, 2500, 9000, LargestPayload}).Draw(t, "size")
			b := make([]byte, size)
			if number++; size >= 4 {
				binary.BigEndian.PutUint32(b, uint32(number))
				b[size-1] = byte(number)
			}
			return b
		}
		good := rapid.Bool().Draw(t, "good path")
		total := 0
		for range rapid.IntRange(1, 12).Draw(t, "messages") {
			sends.pulse.path.size = rapid.IntRange(smallestSize, plainSize).Draw(t, "path")
			flow, b := rapid.Uint32().Draw(t, "flow"), content()
			header := []byte("header")
			var err error
			switch rapid.IntRange(0, 2).Draw(t, "kind") {
			case 0:
				err = sends.Data(flow, b)
				c.sent[keyOf("data", flow, b)]++
			case 1:
				err = sends.First(flow, header, b)
				c.sent[keyOf("first", flow, append(header, b...))]++
			case 2:
				err = sends.End(flow, wire.Busy, math.MaxUint32)
				c.sent[keyOf("end", flow, []byte{byte(wire.Busy), 255, 255, 255, 255})]++
			}
			if err != nil {
				t.Fatal(err)
			}
			total++
		}
		sends.Flush()
		path := conn.sent
		if !good {
			path = disturb(t, path)
		}
		for _, b := range path {
			receives.receive(datagram{b: b}, time.Now())
		}
		if good && c.n != total {
			t.Fatalf("%d of %d messages have arrived", c.n, total)
		}
	})
}

// disturb does to datagrams what a path can do.
func disturb(t *rapid.T, sent [][]byte) (path [][]byte) {
	for _, b := range sent {
		for range rapid.SampledFrom([]int{0, 1, 1, 1, 2}).Draw(t, "copies") {
			c := bytes.Clone(b)
			if rapid.IntRange(0, 9).Draw(t, "damage") == 9 {
				c[rapid.IntRange(0, len(c)-1).Draw(t, "where")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			}
			path = append(path, c)
			if i := rapid.IntRange(0, min(5, len(path)-1)).Draw(t, "delay"); i > 0 {
				j := len(path) - 1
				path[j], path[j-i] = path[j-i], path[j]
			}
		}
	}
	return path
}

// TestSizes: no datagram is larger than the path takes, and 1,200 bytes go in one.
func TestSizes(t *testing.T) {
	t.Parallel()
	conn := &shelf{}
	l, _ := half(t, conn, newRecorder())
	must(t, l.Data(1, make([]byte, 1200)))
	l.Flush()
	if len(conn.sent) != 1 || len(conn.sent[0]) > 1300-48 {
		t.Errorf("1,200 bytes go in %d datagrams, the first of %d bytes", len(conn.sent), len(conn.sent[0]))
	}
	conn.sent = nil
	must(t, l.Data(1, make([]byte, 1500)))
	l.Flush()
	if len(conn.sent) != 2 {
		t.Errorf("1,500 bytes go in %d datagrams", len(conn.sent))
	}
	for _, b := range conn.sent {
		if len(b) > baseSize {
			t.Errorf("a datagram has %d bytes", len(b))
		}
	}
	if err := l.Data(1, make([]byte, LargestPayload+1)); err != ErrTooLarge { //nolint:errorlint // itself
		t.Errorf("a payload that is too large: %v", err)
	}
}

// TestAssemblyIsBounded: parts whose others never come cost a bounded memory.
func TestAssemblyIsBounded(t *testing.T) {
	t.Parallel()
	var a assembly
	for i := range 10 * mostParts {
		a.add(part{id: uint16(i), index: 0, count: mostParts}, make([]byte, 8900), time.Now())
		if a.held > mostHeld || len(a.half) > mostHalf {
			t.Fatalf("%d bytes of %d messages are held", a.held, len(a.half))
		}
	}
	if a.lost == 0 {
		t.Error("nothing was dropped")
	}
	a.add(part{id: 1, index: 0, count: 2}, []byte("x"), time.Now().Add(2*partsExpire))
	if len(a.half) != 1 {
		t.Errorf("%d messages are held after their time", len(a.half))
	}
}

// TestWindow: each number passes once, and those that are too old not at all.
func TestWindow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var w window
		seen, latest := make(map[uint64]bool), uint64(0)
		for range 200 {
			n := rapid.Uint64Range(0, 3*windowSize).Draw(t, "number")
			fresh := !seen[n] && (len(seen) == 0 || n+windowSize > latest)
			if got := w.fresh(n); got != fresh {
				t.Fatalf("number %d with latest %d: fresh is %v", n, latest, got)
			}
			if !fresh {
				continue
			}
			if got, want := w.mark(n), len(seen) == 0 || n > latest; got != want {
				t.Fatalf("number %d with latest %d: latest is %v", n, latest, got)
			}
			seen[n], latest = true, max(latest, n)
		}
	})
}

// FuzzDecode: no message makes the decoder fail, and what it takes is encoded alike.
func FuzzDecode(f *testing.F) {
	for _, b := range [][]byte{{}, {kindBye}, {kindData, 0, 0, 0, 1, 'x'}, {kindPart, 0, 1, 0, 2, 'x'}, {kindEnd, 0, 0, 0, 1, 2, 0, 0, 0, 3}, {kindPing, 0, 0, 0, 9, 0, 0}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			return
		}
		var again []byte
		switch m.kind {
		case kindData, kindFirst:
			again = appendFlow(nil, m.kind, m.flow)
		case kindEnd:
			again = appendEnd(nil, m.flow, m.status, m.seconds)
		case kindPart:
			again = appendPart(nil, m.part)
		case kindPing, kindPong:
			again = appendNumber(nil, m.kind, m.number)
		case kindBye:
			again = []byte{kindBye}
		}
		if again = append(again, m.content...); !bytes.HasPrefix(b, again) {
			t.Errorf("%x is decoded to %+v", b, m)
		}
	})
}
