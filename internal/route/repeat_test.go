package route

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestRepeat counts the seconds between rounds of proofs.
func TestRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		changed := make(chan struct{}, 1)
		change := func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		}
		began := time.Now()
		var rounds []time.Duration
		done := make(chan struct{})
		go func() {
			defer close(done)
			repeat(ctx, changed, func(context.Context) { rounds = append(rounds, time.Since(began)) })
		}()
		time.Sleep(12 * time.Second) // a regular round at 10
		for range 50 {               // until 14.5: a round at once, and then one a second
			change()
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(15 * time.Second)
		cancel()
		<-done
		want := []time.Duration{
			10 * time.Second,
			12*time.Second + 100*time.Millisecond,
			13*time.Second + 200*time.Millisecond,
			14*time.Second + 300*time.Millisecond,
			15*time.Second + 400*time.Millisecond,
			20 * time.Second,
		}
		if !slices.Equal(rounds, want) {
			t.Errorf("rounds at %v, want %v", rounds, want)
		}
	})
}
