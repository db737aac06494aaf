package accesslog

import (
	"context"
	"fmt"
	"io"
	"log/syslog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"portredirector/internal/track"
)

// Paths that do not name a file.
const (
	Stdout = "-"
	Syslog = "syslog"
)

const (
	queueLen = 8192                   // the most records that wait
	batch    = 64 << 10               // bytes after which a write begins
	pause    = 100 * time.Millisecond // for records to gather: waking the writer for each would cost more than the line
)

// Log writes records.
type Log struct {
	path   string
	format Format
	open   OpenFile

	filled  chan struct{} // signals that records wait
	dropped atomic.Uint64

	mu      sync.Mutex
	waiting []track.Record // guarded by mu
	out     io.WriteCloser // guarded by writing
	writing sync.Mutex
}

// OpenFile opens a file to append to, and creates it if there is none.
type OpenFile func(path string) (*os.File, error)

// Open opens a log. The path names a file, or is Stdout or Syslog.
func Open(path string, format Format, file OpenFile) (*Log, error) {
	l := &Log{path: path, format: format, open: file, filled: make(chan struct{}, 1)}
	return l, l.Reopen()
}

// Reopen opens the file again, after its rotation. On failure the old file stays in use.
func (l *Log) Reopen() error {
	out, err := l.openPath()
	if err != nil {
		return fmt.Errorf("open access log: %w", err)
	}
	l.writing.Lock()
	old := l.out
	l.out = out
	l.writing.Unlock()
	if old != nil {
		return old.Close()
	}
	return nil
}

// openPath opens the file, or what else the path names.
func (l *Log) openPath() (io.WriteCloser, error) {
	switch l.path {
	case Stdout:
		return noClose{os.Stdout}, nil
	case Syslog:
		return syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, "portredirector")
	}
	return l.open(l.path)
}

// noClose is a writer that others use, too.
type noClose struct{ io.Writer }

// Close does nothing.
func (noClose) Close() error { return nil }

// Add queues a record, or drops it if the queue is full. It never blocks on the file.
func (l *Log) Add(r track.Record) {
	l.mu.Lock()
	first, full := len(l.waiting) == 0, len(l.waiting) == queueLen
	if !full {
		l.waiting = append(l.waiting, r)
	}
	l.mu.Unlock()
	switch {
	case full:
		l.dropped.Add(1)
	case first:
		select {
		case l.filled <- struct{}{}:
		default:
		}
	}
}

// Dropped returns the number of records that were dropped.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// Run writes records until ctx is canceled, and then the rest of the queue. It passes write
// errors to report, and the number of records dropped since the last report.
func (l *Log) Run(ctx context.Context, report func(err error, dropped uint64)) {
	w := writer{log: l, report: report}
	for ctx.Err() == nil {
		select {
		case <-l.filled:
		case <-ctx.Done():
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		w.writeAll()
	}
	w.writeAll() // what was queued meanwhile
}

// Close closes the file. Run must have returned.
func (l *Log) Close() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	return l.out.Close()
}

// writer is the state of Run.
type writer struct {
	log     *Log
	report  func(err error, dropped uint64)
	records []track.Record // being written
	buf     []byte
	failed  bool
	dropped uint64 // reported
}

// writeAll writes the queued records.
func (w *writer) writeAll() {
	l := w.log
	l.mu.Lock()
	w.records, l.waiting = l.waiting, w.records[:0]
	l.mu.Unlock()
	for i := range w.records {
		w.buf = l.format.Append(w.buf, &w.records[i])
		if len(w.buf) >= batch || l.path == Syslog || i == len(w.records)-1 { // syslog takes a line at a time
			w.write()
		}
	}
	clear(w.records) // releases their errors
}

// write writes the lines in the buffer.
func (w *writer) write() {
	w.log.writing.Lock()
	_, err := w.log.out.Write(w.buf)
	w.log.writing.Unlock()
	w.buf = w.buf[:0]
	dropped := w.log.Dropped()
	if err != nil && !w.failed || dropped > w.dropped {
		w.report(err, dropped-w.dropped)
	}
	w.failed, w.dropped = err != nil, dropped
}
