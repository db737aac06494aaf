package wire_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
)

func TestJoin(t *testing.T) {
	secret := [16]byte([]byte("0123456789abcdef"))
	for name, want := range map[string]string{
		"": "", "home": "home", strings.Repeat("x", 64): strings.Repeat("x", 64), strings.Repeat("x", 300): strings.Repeat("x", 64),
	} {
		var b bytes.Buffer
		nstest.Must(t, wire.WriteJoin(&b, wire.Join{Secret: secret, Name: name}))
		whole := bytes.Clone(b.Bytes())
		b.WriteString("more")
		got, err := wire.ReadJoin(iotest.OneByteReader(&b))
		if err != nil || got != (wire.Join{Secret: secret, Name: want}) || b.String() != "more" {
			t.Errorf("%q: %v, %v, and %q is left", name, got, err, b.String())
		}
		for n := range whole {
			if _, err := wire.ReadJoin(bytes.NewReader(whole[:n])); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%d of %d bytes: %v", n, len(whole), err)
			}
		}
		whole[0]++
		if _, err := wire.ReadJoin(bytes.NewReader(whole)); err == nil || !strings.Contains(err.Error(), "version 2") {
			t.Errorf("version 2: %v", err)
		}
		whole[0]--
		whole[17] = 65
		if _, err := wire.ReadJoin(bytes.NewReader(append(whole, make([]byte, 100)...))); err == nil || !strings.Contains(err.Error(), "a name of 65 bytes") {
			t.Errorf("a name of 65 bytes: %v", err)
		}
	}
	if err := wire.WriteJoin(broken{}, wire.Join{}); err == nil {
		t.Error("no error of the writer")
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("broken") }

func TestStatusOnTheWire(t *testing.T) {
	var b bytes.Buffer
	for s := range wire.Banned + 2 {
		nstest.Must(t, wire.WriteStatus(&b, s))
		if got, err := wire.ReadStatus(&b); err != nil || got != s || b.Len() != 0 {
			t.Errorf("%v: %v, %v", s, got, err)
		}
		if known := s <= wire.Banned; s.Known() != known {
			t.Errorf("%v is known: %t", s, !known)
		}
	}
	if _, err := wire.ReadStatus(&b); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}

func FuzzReadJoin(f *testing.F) {
	f.Add([]byte("\x010123456789abcdef\x04home"))
	f.Fuzz(func(t *testing.T, b []byte) {
		j, err := wire.ReadJoin(bytes.NewReader(b))
		if err != nil {
			return
		}
		var again bytes.Buffer
		nstest.Must(t, wire.WriteJoin(&again, j))
		if !bytes.HasPrefix(b, again.Bytes()) {
			t.Errorf("%q is %q", b, again.Bytes())
		}
	})
}
