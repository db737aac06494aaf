package logging

import (
	"context"
	"log/slog"
	"time"
)

// tick removes old entries, and logs what they have left out. It runs as long as there are entries.
func (q *Throttle[K]) tick() {
	q.remove(func(e *entry) bool {
		age := time.Since(e.at)
		return age >= thereupon || e.more == 0 && age >= every
	})
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ticks = len(q.entries) > 0; q.ticks {
		time.AfterFunc(every, q.tick)
	}
}

// Flush logs what was left out so far. Call it at the end of a program.
func (q *Throttle[K]) Flush() {
	q.remove(func(*entry) bool { return true })
}

// remove removes entries, and writes a line for each that has left something out.
func (q *Throttle[K]) remove(which func(*entry) bool) {
	unlogged := make(map[subject[K]]*entry)
	q.mu.Lock()
	for about, e := range q.entries {
		if !which(e) {
			continue
		}
		delete(q.entries, about)
		if e.more > 0 {
			unlogged[about] = e
		}
	}
	q.mu.Unlock()
	for about, e := range unlogged {
		from := slog.Any("from", about.from)
		if about.anyone {
			from = slog.String("from", "anyone")
		}
		q.To.LogAttrs(context.Background(), e.level, about.event, from, slog.Int("more", e.more)) //nolint:sloglint // a constant of the callers
	}
}
