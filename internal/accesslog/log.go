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

// Targets that are no file.
const (
	Stdout = "-"
	Syslog = "syslog"
)

const (
	room     = 8192                   // records that can wait
	batch    = 64 << 10               // bytes after which a write begins
	patience = 3 * time.Second        // for the last lines
	pause    = 100 * time.Millisecond // in which records gather: to wake the writer for each would cost more than the line
)

// Log writes records.
type Log struct {
	path   string
	format Format
	open   OpenFile

	filled  chan struct{} // has something when records wait
	dropped atomic.Uint64

	mu      sync.Mutex
	waiting []track.Record // guarded by mu
	next    io.WriteCloser // in place of out; guarded by mu
	out     io.WriteCloser // of the writer
	stuck   bool           // the writer never returned
}

// OpenFile opens a file to append to, and makes it if there is none.
type OpenFile func(path string) (*os.File, error)

// Open opens a log. path is a file, Stdout or Syslog.
func Open(path string, format Format, file OpenFile) (*Log, error) {
	l := &Log{path: path, format: format, open: file, filled: make(chan struct{}, 1)}
	return l, l.Reopen()
}

// Reopen opens the file again, after its rotation. On failure the old file stays in use. It does
// not wait for the writer, which may be stuck.
func (l *Log) Reopen() error {
	out, err := l.target()
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

// target opens what the path names.
func (l *Log) target() (io.WriteCloser, error) {
	switch l.path {
	case Stdout:
		return unclosed{os.Stdout}, nil
	case Syslog:
		return syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, "portredirector")
	}
	return l.open(l.path)
}

// unclosed is standard output, which others use, too.
type unclosed struct{ io.Writer }

// Close does nothing.
func (unclosed) Close() error { return nil }

// Add logs a record, or drops it if the log is too slow. It does not wait for the log.
func (l *Log) Add(r track.Record) {
	l.mu.Lock()
	first, full := len(l.waiting) == 0, len(l.waiting) == room
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

// Dropped returns the number of records that were not written.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// Run writes records until ctx is canceled, and then those that wait, at most for patience. It
// passes errors of writing, and the number of records dropped since the last time, to report.
// A writer that is stuck for good, as in a pipe that nobody reads, keeps its goroutine.
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
	w.writeAll() // what came meanwhile
}

// Close closes the file, after Run.
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
	records []track.Record // to be written
	buf     []byte
	failed  bool
	dropped uint64 // reported
}

// writeAll writes the records that wait.
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
	clear(w.records) // the errors in them
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
