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
	p := pauser{log: slog.New(slog.DiscardHandler)}
	for _, want := range []time.Duration{5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000} {
		if got := p.next(syscall.EMFILE); got != want*time.Millisecond {
			t.Fatalf("paused %s, want %d ms", got, want)
		}
	}
}

// TestOneRunOfPauses: failing and working by turns is one run.
func TestOneRunOfPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := pauser{log: slog.New(slog.NewTextHandler(&out, nil))}
		for range 100 {
			time.Sleep(p.next(syscall.EMFILE))
			p.worked()
		}
		if err := p.trouble(); !errors.Is(err, syscall.EMFILE) {
			t.Errorf("its trouble is %v", err)
		}
		time.Sleep(maxPause + 2*calm)
		if err := p.trouble(); err != nil { // though nobody has come since
			t.Errorf("its trouble is %v", err)
		}
		p.worked()
		p.worked()
		for _, line := range []string{"cannot accept", "accepting again"} {
			if n := strings.Count(out.String(), line); n != 1 {
				t.Errorf("%q was said %d times", line, n)
			}
		}
		if got := p.next(syscall.EMFILE); got != minPause {
			t.Errorf("paused %s after it had worked again, want %s", got, minPause)
		}
	})
}
