package relay

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Pauses of a listener that cannot accept, doubled each time.
const (
	minPause = 5 * time.Millisecond
	maxPause = time.Second
)

// calm is the time without a failure after which a run of pauses is over.
const calm = time.Second

// backoff determines the pauses of one listener. At the limit of descriptors
// accepting works and fails by turns; that is one run of pauses, and is logged once.
type backoff struct {
	log *slog.Logger

	mu    sync.Mutex
	pause time.Duration
	since time.Time // the run began
	last  time.Time // the last failure
	cause error     // of the last failure
}

// fail returns how long to pause after an error.
func (b *backoff) fail(err error) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last, b.cause = time.Now(), err
	if b.since.IsZero() {
		b.since = b.last
		b.log.Warn("cannot accept, pausing until it works again", slog.Any("error", err))
	}
	b.pause = min(max(2*b.pause, minPause), maxPause)
	return b.pause
}

// err returns the last failure, if another is to be expected.
func (b *backoff) err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.since.IsZero() || time.Since(b.last) > maxPause+calm {
		return nil
	}
	return fmt.Errorf("it cannot accept: %w", b.cause)
}

// succeed notes a connection that was accepted.
func (b *backoff) succeed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.since.IsZero() {
		return
	}
	b.pause /= 2
	if now := time.Now(); now.Sub(b.last) >= calm {
		b.log.Info("accepting again", slog.Duration("after", now.Sub(b.since)))
		b.pause, b.since = 0, time.Time{}
	}
}
