// Package backoff computes the pauses between retries.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff doubles its pause with each failure, from Min to Max. A pause has a random
// part of up to a half of it, so that retries of many do not coincide. Its fields must
// be set before the first use. It is not safe for concurrent use.
type Backoff struct {
	Min, Max time.Duration

	failures int
}

// Next counts a failure and returns the pause before the next try.
func (b *Backoff) Next() time.Duration {
	const longestShift = 20
	pause := min(b.Min<<min(b.failures, longestShift), b.Max)
	b.failures++
	return pause/2 + rand.N(pause/2+1) //nolint:gosec // no secret
}

// Failures returns the number of failures since the last Reset.
func (b *Backoff) Failures() int { return b.failures }

// Reset notes a success.
func (b *Backoff) Reset() { b.failures = 0 }

// Sleep waits for d, or until ctx is canceled. It reports whether d has passed.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
