package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"portredirector/internal/track"
)

// Events of pathEvents.
const (
	eventSummary = "summary"
	eventBegin   = "begin"
	eventEnd     = "end"
)

const (
	summaryEvery = 2 * time.Second
	eventsEvery  = 250 * time.Millisecond // they gather meanwhile
	eventTimeout = 5 * time.Second        // for one write to a reader
	mostReaders  = 16
	mostWaiting  = 512 // events queued for a reader; more are dropped
)

// send sends an event to a reader.
type send func(name string, data any) error

// feed queues events for one reader. Adding never blocks.
type feed[T any] struct {
	mu      sync.Mutex
	waiting []T // guarded by mu
	missed  int // guarded by mu
}

// add queues an event, or drops it if the queue is full.
func (f *feed[T]) add(event T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.waiting) >= mostWaiting {
		f.missed++
		return
	}
	f.waiting = append(f.waiting, event)
}

// take removes and returns the queued events.
func (f *feed[T]) take() []T {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.waiting
	f.waiting = nil
	return list
}

// miss counts events that were dropped before they came here.
func (f *feed[T]) miss(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.missed += n
}

// takeMissed returns the number of events dropped since its last call.
func (f *feed[T]) takeMissed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	missed := f.missed
	f.missed = 0
	return missed
}

// deliver sends the events of a feed, and summaries, until ctx is canceled or a write fails.
func deliver[T any](ctx context.Context, f *feed[T], to send, summary func() Summary, connection func(*T) Connection) error {
	gathered, due := time.NewTicker(eventsEvery), time.NewTicker(summaryEvery)
	defer gathered.Stop()
	defer due.Stop()
	for {
		s := summary()
		s.Missed = f.takeMissed()
		if err := to(eventSummary, s); err != nil {
			return err
		}
		for next := false; !next; {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-due.C:
				next = true
			case <-gathered.C:
			}
			events := f.take()
			for i := range events {
				c := connection(&events[i])
				name := eventBegin
				if c.Code != "" {
					name = eventEnd
				}
				if err := to(name, c); err != nil {
					return err
				}
			}
		}
	}
}

// follow sends the events of this process.
func (o *own) follow(ctx context.Context, to send) error {
	var f feed[track.Record]
	defer o.Table.Observe(f.add, f.add)()
	return deliver(ctx, &f, to, func() Summary {
		w := o.sum()
		return Summary{Time: time.Now().UTC(), Condition: conditionOf(o.Health), Sum: w.Sum, Workers: []WorkerSum{w}}
	}, o.connection)
}

// readers bounds the readers of events of a process.
type readers struct{ places chan struct{} }

// serve sends events to a reader over HTTP.
func (v *readers) serve(a API, w http.ResponseWriter, r *http.Request) {
	select {
	case v.places <- struct{}{}:
		defer func() { <-v.places }()
	default:
		fail(w, http.StatusServiceUnavailable, errTooMany)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	_ = a.follow(r.Context(), func(name string, data any) error { // the reader is gone
		text, err := json.Marshal(data)
		if err != nil {
			return err
		}
		_ = out.SetWriteDeadline(time.Now().Add(eventTimeout))
		for _, part := range [][]byte{[]byte("event: " + name + "\ndata: "), text, []byte("\n\n")} {
			if _, err := w.Write(part); err != nil {
				return err
			}
		}
		return out.Flush()
	})
}
