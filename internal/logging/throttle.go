package logging

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	every     = time.Minute // how often there is a line about the same
	mostTold  = 1024        // entries with a source
	thereupon = 2 * every   // when what was left out is told though nothing came again
)

// Throttle is a log of events, each from a source K. Its field must be set before the first
// Tell. Events are constants: there are few.
type Throttle[K comparable] struct {
	To *slog.Logger

	mu      sync.Mutex
	entries map[subject[K]]*entry // guarded by mu
	ticks   bool                  // the next tick is set; guarded by mu
}

// subject is what a line is about.
type subject[K comparable] struct {
	event  string
	from   K
	anyone bool // from nobody in particular
}

// entry is a line that was written, and how many were not since.
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

// count says whether to write a line now, which subject it is about, and how many it
// stands for besides.
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
		q.add(about, &entry{level: level, at: now})
		return about, 0, true
	case now.Sub(e.at) < every:
		e.more++
		return about, 0, false
	}
	more, e.at, e.more = e.more, now, 0
	return about, more, true
}

// add remembers a line. The caller holds mu.
func (q *Throttle[K]) add(about subject[K], e *entry) {
	if q.entries == nil {
		q.entries = make(map[subject[K]]*entry)
	}
	q.entries[about] = e
	if !q.ticks {
		q.ticks = true
		time.AfterFunc(every, q.tick)
	}
}
