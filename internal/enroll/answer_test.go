package enroll_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"portredirector/internal/enroll"
	"portredirector/internal/testnet/nstest"
)

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
