package enroll_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"portredirector/internal/enroll"
	"portredirector/internal/testnet/nstest"
)

func TestRequest(t *testing.T) {
	for name, want := range map[string]string{
		"": "", "home": "home", strings.Repeat("x", 64): strings.Repeat("x", 64), strings.Repeat("x", 300): strings.Repeat("x", 64),
	} {
		secret := enroll.NewSecret()
		var b bytes.Buffer
		nstest.Must(t, enroll.WriteRequest(&b, secret, name))
		whole := bytes.Clone(b.Bytes())
		b.WriteString("more")
		got, gotName, err := enroll.ReadRequest(iotest.OneByteReader(&b))
		if err != nil || got != secret || gotName != want || b.String() != "more" {
			t.Errorf("%q: %q, %v, and %q is left", name, gotName, err, b.String())
		}
		for n := range whole {
			if _, _, err := enroll.ReadRequest(bytes.NewReader(whole[:n])); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%d of %d bytes: %v", n, len(whole), err)
			}
		}
		whole[0]++
		_, _, err = enroll.ReadRequest(bytes.NewReader(whole))
		wantError(t, err, "version 2")
		whole[0]--
		whole[17] = 65
		_, _, err = enroll.ReadRequest(bytes.NewReader(append(whole, make([]byte, 100)...)))
		wantError(t, err, "a name of 65 bytes")
	}
	var secret enroll.Secret
	wantError(t, enroll.WriteRequest(broken{}, secret, "home"), "broken")
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("broken") }

func TestAnswer(t *testing.T) {
	for name, tt := range map[string]struct {
		accepted error
		status   byte
		says     string
	}{
		"accepted": {nil, 0, ""},
		"unknown":  {fmt.Errorf("why: %w", enroll.ErrUnknown), 5, "does not take the invitation"},
		"expired":  {enroll.ErrExpired, 5, "does not take the invitation"},
		"failed":   {io.ErrShortWrite, 7, "try again"},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			nstest.Must(t, enroll.WriteAnswer(&b, tt.accepted))
			if b.Len() != 1 || b.Bytes()[0] != tt.status {
				t.Errorf("it is %x", b.Bytes())
			}
			err := enroll.ReadAnswer(&b)
			if (err == nil) != (tt.accepted == nil) || errors.Is(err, enroll.ErrRefused) != (tt.status == 5) {
				t.Errorf("it is %v", err)
			}
			if tt.says != "" {
				wantError(t, err, tt.says)
			}
		})
	}
	if err := enroll.ReadAnswer(strings.NewReader("")); !errors.Is(err, io.EOF) {
		t.Errorf("no answer: %v", err)
	}
	wantError(t, enroll.ReadAnswer(strings.NewReader("\xff")), "status 255")
}

func FuzzReadRequest(f *testing.F) {
	f.Add([]byte("\x010123456789abcdef\x04home"))
	f.Fuzz(func(t *testing.T, b []byte) {
		secret, name, err := enroll.ReadRequest(bytes.NewReader(b))
		if err != nil {
			return
		}
		var again bytes.Buffer
		nstest.Must(t, enroll.WriteRequest(&again, secret, name))
		if !bytes.HasPrefix(b, again.Bytes()) {
			t.Errorf("%q is %q", b, again.Bytes())
		}
	})
}
