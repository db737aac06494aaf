package backoff_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"portredirector/internal/backoff"
)

func TestPausesDouble(t *testing.T) {
	b := backoff.Backoff{Min: 50 * time.Millisecond, Max: time.Second}
	for range 2 {
		for failure, full := range []time.Duration{50, 100, 200, 400, 800, 1000, 1000} {
			full *= time.Millisecond
			if got := b.Next(); got < full/2 || got > full {
				t.Errorf("pause %d is %s, want %s to %s", failure, got, full/2, full)
			}
			if got := b.Failures(); got != failure+1 {
				t.Errorf("%d failures, want %d", got, failure+1)
			}
		}
		b.Reset()
	}
}

func TestPauseAfterManyFailures(t *testing.T) {
	b := backoff.Backoff{Min: 50 * time.Millisecond, Max: 30 * time.Second}
	for range 1000 {
		if got := b.Next(); got <= 0 || got > b.Max {
			t.Fatalf("the pause is %s", got)
		}
	}
}

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		if !backoff.Sleep(ctx, time.Minute) || time.Since(began) != time.Minute {
			t.Errorf("it slept for %s", time.Since(began))
		}
		time.AfterFunc(time.Second, cancel)
		if backoff.Sleep(ctx, time.Minute) || time.Since(began) != time.Minute+time.Second {
			t.Errorf("it slept on after its context was canceled, until %s", time.Since(began))
		}
	})
}
