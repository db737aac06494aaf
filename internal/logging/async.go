package logging

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// room is the number of writes that can wait.
const room = 1024

// Async passes writes to another writer, on a goroutine of its own.
type Async struct {
	lines   chan queued
	dropped atomic.Uint64
	ended   chan struct{}
	once    sync.Once
	mu      sync.RWMutex // held for reading by Write
	closed  bool         // guarded by mu
}

// queued is a write that waits, or a mark behind those that are to be waited for.
type queued struct {
	text    []byte
	written chan struct{}
}

// NewAsync returns a writer to w. Close ends it.
func NewAsync(w io.Writer) *Async {
	l := &Async{lines: make(chan queued, room), ended: make(chan struct{})}
	go l.write(w)
	return l
}

// Write copies b into the queue, or drops it if the queue is full. It never fails.
func (l *Async) Write(b []byte) (int, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return len(b), nil
	}
	select {
	case l.lines <- queued{text: append([]byte(nil), b...)}:
	default:
		l.dropped.Add(1)
	}
	return len(b), nil
}

// Dropped returns the number of writes that found no room.
func (l *Async) Dropped() uint64 { return l.dropped.Load() }

// Flush waits until all that is in the queue is written, at most for patience.
func (l *Async) Flush(patience time.Duration) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return
	}
	late := time.After(patience)
	written := make(chan struct{})
	select {
	case l.lines <- queued{written: written}:
	case <-late:
		return
	}
	select {
	case <-written:
	case <-late:
	}
}

// Close writes what is in the queue and waits for that, at most for patience. A writer that blocks for
// good keeps its goroutine.
func (l *Async) Close(patience time.Duration) {
	l.once.Do(func() {
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
		close(l.lines)
	})
	select {
	case <-l.ended:
	case <-time.After(patience):
	}
}

// write passes the queue on until it is closed.
func (l *Async) write(w io.Writer) {
	defer close(l.ended)
	told := uint64(0)
	for line := range l.lines {
		if line.written != nil {
			close(line.written)
			continue
		}
		_, _ = w.Write(line.text)
		if n := l.dropped.Load(); n > told {
			_, _ = fmt.Fprintf(w, "(%d lines of this log were dropped, it is not read fast enough)\n", n-told)
			told = n
		}
	}
}
