package logging

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// NewHandler returns a handler that writes a line for each event from a level on. If the lines
// go to the journal they begin with their priority, see sd-daemon(3), in place of time and
// level, which the journal keeps by itself. replace changes attributes, see
// slog.HandlerOptions; nil changes none.
func NewHandler(w io.Writer, level slog.Level, journal bool, replace func([]string, slog.Attr) slog.Attr) slog.Handler {
	if !journal {
		return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: replace})
	}
	p := &prioritized{to: w}
	return &journalHandler{p, slog.NewTextHandler(p, &slog.HandlerOptions{Level: level, ReplaceAttr: withoutTime(replace)})}
}

// IsJournal reports whether a file leads to the journal: the service manager says which file
// does.
func IsJournal(f *os.File) bool {
	device, inode, ok := strings.Cut(os.Getenv("JOURNAL_STREAM"), ":")
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && strconv.FormatUint(stat.Dev, 10) == device && strconv.FormatUint(stat.Ino, 10) == inode
}

// withoutTime leaves out what the journal knows, and passes the rest to next, unless that is nil.
func withoutTime(next func([]string, slog.Attr) slog.Attr) func([]string, slog.Attr) slog.Attr {
	return func(groups []string, a slog.Attr) slog.Attr {
		switch {
		case len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey):
			return slog.Attr{}
		case next == nil:
			return a
		}
		return next(groups, a)
	}
}

// prioritized writes the priority before each line.
type prioritized struct {
	to io.Writer

	mu       sync.Mutex // held for a line
	priority int        // of the line; guarded by mu
}

// Write writes one line. The caller holds mu.
func (p *prioritized) Write(line []byte) (int, error) {
	_, err := p.to.Write(fmt.Appendf(nil, "<%d>%s", p.priority, line))
	return len(line), err
}

// journalHandler sets the priority of each line.
type journalHandler struct {
	lines *prioritized
	slog.Handler
}

// Handle writes a line.
func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	h.lines.mu.Lock()
	defer h.lines.mu.Unlock()
	h.lines.priority = priority(r.Level)
	return h.Handler.Handle(ctx, r)
}

// WithAttrs adds attributes to every line.
func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journalHandler{h.lines, h.Handler.WithAttrs(attrs)}
}

// WithGroup opens a group.
func (h *journalHandler) WithGroup(name string) slog.Handler {
	return &journalHandler{h.lines, h.Handler.WithGroup(name)}
}

// priority returns the priority of a level, see syslog(3).
func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}
