package relay

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestPauses: they grow, so that a listener does not spin, and are bounded, so
// that it is back soon.
func TestPauses(t *testing.T) {
	p := backoff{log: slog.New(slog.DiscardHandler)}
	for _, want := range []time.Duration{5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000} {
		if got := p.fail(syscall.EMFILE); got != want*time.Millisecond {
			t.Fatalf("paused %s, want %d ms", got, want)
		}
	}
}

// TestOneRunOfPauses: failing and working by turns is one run.
func TestOneRunOfPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := backoff{log: slog.New(slog.NewTextHandler(&out, nil))}
		for range 100 {
			time.Sleep(p.fail(syscall.EMFILE))
			p.succeed()
		}
		if err := p.err(); !errors.Is(err, syscall.EMFILE) {
			t.Errorf("its trouble is %v", err)
		}
		time.Sleep(maxPause + 2*calm)
		if err := p.err(); err != nil { // though nobody has come since
			t.Errorf("its trouble is %v", err)
		}
		p.succeed()
		p.succeed()
		for _, line := range []string{"cannot accept", "accepting again"} {
			if n := strings.Count(out.String(), line); n != 1 {
				t.Errorf("%q was said %d times", line, n)
			}
		}
		if got := p.fail(syscall.EMFILE); got != minPause {
			t.Errorf("paused %s after it had worked again, want %s", got, minPause)
		}
	})
}
