package logging_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"portredirector/internal/logging"
)

func TestEverythingArrivesInOrder(t *testing.T) {
	var out bytes.Buffer
	w := logging.NewAsync(&out)
	var want strings.Builder
	for i := range 500 {
		fmt.Fprintln(io.MultiWriter(w, &want), i)
	}
	w.Close(time.Minute)
	if out.String() != want.String() {
		t.Errorf("%d bytes arrived, want %d", out.Len(), want.Len())
	}
	if n, err := w.Write([]byte("late")); n != 4 || err != nil {
		t.Errorf("a late write: %d, %v", n, err)
	}
}

// TestFlush wants all that was written before to be there, and a writer that blocks to be waited for only so long.
func TestFlush(t *testing.T) {
	r, p := io.Pipe()
	w := logging.NewAsync(p)
	_, _ = w.Write([]byte("one\n"))
	w.Flush(time.Millisecond)
	text := make(chan string, 1)
	go func() {
		b := make([]byte, 8)
		_, _ = io.ReadFull(r, b)
		text <- string(b)
	}()
	_, _ = w.Write([]byte("two\n"))
	w.Flush(time.Minute)
	if got := <-text; got != "one\ntwo\n" {
		t.Errorf("%q", got)
	}
	w.Close(time.Minute)
	w.Flush(time.Minute)
}

// TestStuck wants a writer that blocks to block nobody, and to get the number of dropped lines when it
// goes on.
func TestStuck(t *testing.T) {
	r, p := io.Pipe()
	w := logging.NewAsync(p)
	for range 5000 {
		if _, err := w.Write([]byte("x\n")); err != nil {
			t.Fatal(err)
		}
	}
	w.Close(time.Millisecond)
	text := make(chan string)
	go func() {
		b, _ := io.ReadAll(r)
		text <- string(b)
	}()
	w.Close(time.Minute)
	_ = p.Close()
	got := <-text
	var dropped int
	for line := range strings.Lines(got) {
		_, _ = fmt.Sscanf(line, "(%d lines", &dropped)
	}
	if n := strings.Count(got, "x\n") + dropped; dropped == 0 || n != 5000 {
		t.Errorf("%d lines, %d of them dropped, want 5000", n, dropped)
	}
}
