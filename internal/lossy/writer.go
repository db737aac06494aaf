// Package lossy provides a writer that never makes its caller wait.
//
// It is for the log: lines are written from the event loops, and where
// standard error is a pipe that nobody reads (a slow journal, a pager, a stuck
// container engine) a write would stop all relaying. What there is no room for
// is dropped, and counted.
package lossy

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// room is how many writes can wait.
const room = 1024

// Writer passes writes on to another writer, on a goroutine of its own.
type Writer struct {
	lines   chan []byte
	dropped atomic.Int64
	ended   chan struct{}
	once    sync.Once
	mu      sync.RWMutex // held for reading while a line is put in
	closed  bool         // guarded by mu
}

// NewWriter returns a writer to w. Close ends it.
func NewWriter(w io.Writer) *Writer {
	l := &Writer{lines: make(chan []byte, room), ended: make(chan struct{})}
	go l.write(w)
	return l
}

// Write takes a copy of b, or drops it. It never fails.
func (l *Writer) Write(b []byte) (int, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return len(b), nil
	}
	select {
	case l.lines <- append([]byte(nil), b...):
	default:
		l.dropped.Add(1)
	}
	return len(b), nil
}

// Close writes what is waiting, for as long as patience lasts. A writer that is
// stuck for good keeps its goroutine.
func (l *Writer) Close(patience time.Duration) {
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

func (l *Writer) write(w io.Writer) {
	defer close(l.ended)
	for line := range l.lines {
		_, _ = w.Write(line)
		if n := l.dropped.Swap(0); n > 0 {
			_, _ = fmt.Fprintf(w, "(%d lines of this log were dropped, it is not read fast enough)\n", n)
		}
	}
}
