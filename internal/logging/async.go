package logging

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// room is how many writes can wait.
const room = 1024

// Async passes writes on to another writer, on a goroutine of its own.
type Async struct {
	lines   chan []byte
	dropped atomic.Int64
	ended   chan struct{}
	once    sync.Once
	mu      sync.RWMutex // held for reading while a line is put in
	closed  bool         // guarded by mu
}

// NewAsync returns a writer to w. Close ends it.
func NewAsync(w io.Writer) *Async {
	l := &Async{lines: make(chan []byte, room), ended: make(chan struct{})}
	go l.write(w)
	return l
}

// Write takes a copy of b, or drops it. It never fails.
func (l *Async) Write(b []byte) (int, error) {
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

func (l *Async) write(w io.Writer) {
	defer close(l.ended)
	for line := range l.lines {
		_, _ = w.Write(line)
		if n := l.dropped.Swap(0); n > 0 {
			_, _ = fmt.Fprintf(w, "(%d lines of this log were dropped, it is not read fast enough)\n", n)
		}
	}
}
