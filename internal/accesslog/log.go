package accesslog

import (
	"context"
	"errors"
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
	patience = 3 * time.Second        // for the last lines
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
	next    io.WriteCloser // in place of out; guarded by mu
	out     io.WriteCloser // of the writer
	stuck   bool           // the writer never returned
}

// OpenFile opens a file to append to, and creates it if there is none.
type OpenFile func(path string) (*os.File, error)

// Open opens a log. The path names a file, or is Stdout or Syslog.
func Open(path string, format Format, file OpenFile) (*Log, error) {
	l := &Log{path: path, format: format, open: file, filled: make(chan struct{}, 1)}
	return l, l.Reopen()
}

// Reopen opens the file again, after its rotation. On failure the old file stays in use. It does
// not wait for the writer, which may be stuck.
func (l *Log) Reopen() error {
	out, err := l.openPath()
	if err != nil {
		return fmt.Errorf("open access log: %w", err)
	}
	l.mu.Lock()
	unused := l.next
	l.next = out
	l.mu.Unlock()
	if unused != nil {
		return unused.Close()
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

// Run writes records until ctx is canceled, and then the rest of the queue, at most for patience.
// It passes write errors to report, and the number of records dropped since the last report. A
// writer that is stuck for good, as in a pipe that nobody reads, keeps its goroutine.
func (l *Log) Run(ctx context.Context, report func(err error, dropped uint64)) {
	written := make(chan struct{})
	go func() {
		defer close(written)
		l.write(ctx, report)
	}()
	<-ctx.Done()
	select {
	case <-written:
	case <-time.After(patience):
		l.stuck = true
		report(errStuck, 0)
	}
}

var errStuck = errors.New("nobody takes its last lines")

// write writes records until ctx is canceled, and then those that wait.
func (l *Log) write(ctx context.Context, report func(err error, dropped uint64)) {
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
	if l.stuck {
		return nil // closing could wait for the writer
	}
	err := l.follow()
	if l.out != nil {
		err = errors.Join(err, l.out.Close())
	}
	return err
}

// follow makes the writer use the file that was opened last.
func (l *Log) follow() error {
	l.mu.Lock()
	next := l.next
	l.next = nil
	l.mu.Unlock()
	if next == nil {
		return nil
	}
	old := l.out
	l.out = next
	if old == nil {
		return nil
	}
	return old.Close()
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
	err := w.log.follow()
	if _, werr := w.log.out.Write(w.buf); werr != nil {
		err = werr
	}
	w.buf = w.buf[:0]
	dropped := w.log.Dropped()
	if err != nil && !w.failed || dropped > w.dropped {
		w.report(err, dropped-w.dropped)
	}
	w.failed, w.dropped = err != nil, dropped
}
