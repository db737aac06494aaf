package logging

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	every     = time.Minute // between two lines about the same
	mostTold  = 1024        // entries with a source
	thereupon = 2 * every   // after a line, when the number left out is logged at the latest
)

// Throttle logs events, each from a source K, and leaves out repetitions. Set To before the first Log.
// Events are constants, so there are few.
type Throttle[K comparable] struct {
	To *slog.Logger

	mu      sync.Mutex
	entries map[subject[K]]*entry // guarded by mu
	ticks   bool                  // the next tick is set; guarded by mu
}

// subject identifies lines about the same.
type subject[K comparable] struct {
	event  string
	from   K
	anyone bool // from any of the sources beyond mostTold
}

// entry records a written line, and the lines left out since.
type entry struct {
	level slog.Level
	at    time.Time
	more  int
}

// Log logs an event, or counts it. It calls attrs only for a line that is written.
func (q *Throttle[K]) Log(level slog.Level, event string, from K, attrs func() []slog.Attr) {
	ctx := context.Background()
	if !q.To.Enabled(ctx, level) {
		return
	}
	about, more, write := q.count(level, subject[K]{event: event, from: from})
	if !write {
		if level = slog.LevelDebug; !q.To.Enabled(ctx, level) {
			return
		}
	}
	line := attrs()
	if write && about.anyone {
		line = append(line, slog.String("from", "anyone"))
	}
	if more > 0 {
		line = append(line, slog.Int("more", more))
	}
	q.To.LogAttrs(ctx, level, event, line...) //nolint:sloglint // a constant of the callers
}

// count reports whether to write a line now, with its subject and the number of lines left out before
// it.
func (q *Throttle[K]) count(level slog.Level, about subject[K]) (_ subject[K], more int, write bool) {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.entries[about]
	if e == nil && len(q.entries) >= mostTold {
		about = subject[K]{event: about.event, anyone: true}
		e = q.entries[about]
	}
	switch {
	case e == nil:
		q.addLocked(about, &entry{level: level, at: now})
		return about, 0, true
	case now.Sub(e.at) < every:
		e.more++
		return about, 0, false
	}
	more, e.at, e.more = e.more, now, 0
	return about, more, true
}

// addLocked records a line.
func (q *Throttle[K]) addLocked(about subject[K], e *entry) {
	if q.entries == nil {
		q.entries = make(map[subject[K]]*entry)
	}
	q.entries[about] = e
	if !q.ticks {
		q.ticks = true
		time.AfterFunc(every, q.tick)
	}
}
