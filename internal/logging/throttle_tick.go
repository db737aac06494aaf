package logging

import (
	"context"
	"log/slog"
	"time"
)

// tick forgets what is over, once in a while as long as there is anything, and tells
// what would be forgotten untold.
func (q *Throttle[K]) tick() {
	q.forget(func(e *entry) bool {
		age := time.Since(e.at)
		return age >= thereupon || e.more == 0 && age >= every
	})
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ticks = len(q.entries) > 0; q.ticks {
		time.AfterFunc(every, q.tick)
	}
}

// Flush tells what was left out so far, at the end of a program.
func (q *Throttle[K]) Flush() {
	q.forget(func(*entry) bool { return true })
}

// forget forgets entries, and writes a line for each of which something was left out.
func (q *Throttle[K]) forget(which func(*entry) bool) {
	untold := make(map[subject[K]]*entry)
	q.mu.Lock()
	for about, e := range q.entries {
		if !which(e) {
			continue
		}
		delete(q.entries, about)
		if e.more > 0 {
			untold[about] = e
		}
	}
	q.mu.Unlock()
	for about, e := range untold {
		from := slog.Any("from", about.from)
		if about.anyone {
			from = slog.String("from", "anyone")
		}
		q.To.LogAttrs(context.Background(), e.level, about.event, from, slog.Int("more", e.more)) //nolint:sloglint // a constant of the callers
	}
}
