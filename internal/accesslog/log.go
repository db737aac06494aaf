package accesslog

import (
	"context"
	"fmt"
	"io"
	"log/syslog"
	"os"
	"sync"
	"sync/atomic"

	"portredirector/internal/track"
)

// Targets that are no file.
const (
	Stdout = "-"
	Syslog = "syslog"
)

const (
	room  = 4096     // records that can wait
	batch = 64 << 10 // bytes after which a write begins
)

// Log writes records.
type Log struct {
	path    string
	format  Format
	open    OpenFile
	records chan track.Record
	dropped atomic.Uint64

	mu  sync.Mutex
	out io.WriteCloser // guarded by mu
}

// OpenFile opens a file to append to, and makes it if there is none.
type OpenFile func(path string) (*os.File, error)

// Open opens a log. path is a file, Stdout or Syslog.
func Open(path string, format Format, file OpenFile) (*Log, error) {
	l := &Log{path: path, format: format, open: file, records: make(chan track.Record, room)}
	return l, l.Reopen()
}

// Reopen opens the file again, after its rotation. On failure the old file stays in use.
func (l *Log) Reopen() error {
	out, err := l.target()
	if err != nil {
		return fmt.Errorf("open access log: %w", err)
	}
	l.mu.Lock()
	old := l.out
	l.out = out
	l.mu.Unlock()
	if old != nil {
		return old.Close()
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

// Add logs a record, or drops it if the log is too slow. It does not block.
func (l *Log) Add(r track.Record) {
	select {
	case l.records <- r:
	default:
		l.dropped.Add(1)
	}
}

// Dropped returns the number of records that were not written.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// Run writes records until ctx is canceled, and then those that wait. It passes errors of
// writing, and the number of records dropped since the last time, to report.
func (l *Log) Run(ctx context.Context, report func(err error, dropped uint64)) {
	w := writer{log: l, report: report}
	for {
		select {
		case r := <-l.records:
			w.write(r)
		case <-ctx.Done():
			for {
				select {
				case r := <-l.records:
					w.write(r)
				default:
					return
				}
			}
		}
	}
}

// Close closes the file, after Run.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Close()
}

// writer is the state of Run.
type writer struct {
	log     *Log
	report  func(err error, dropped uint64)
	buf     []byte
	failed  bool
	dropped uint64 // reported
}

// write writes a record, and those that wait behind it.
func (w *writer) write(r track.Record) {
	w.buf = w.log.format.Append(w.buf[:0], &r)
	for len(w.buf) < batch && w.log.path != Syslog { // a message for each line
		select {
		case r := <-w.log.records:
			w.buf = w.log.format.Append(w.buf, &r)
			continue
		default:
		}
		break
	}
	w.log.mu.Lock()
	_, err := w.log.out.Write(w.buf)
	w.log.mu.Unlock()
	dropped := w.log.Dropped()
	if err != nil && !w.failed || dropped > w.dropped {
		w.report(err, dropped-w.dropped)
	}
	w.failed, w.dropped = err != nil, dropped
}
