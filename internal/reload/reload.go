// Package reload keeps what was read from files in step with them.
package reload

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// every is how often the files are looked at, at most.
const every = time.Second

// Value is what was read from some files, and is read again once one of them has
// changed.
type Value[T any] struct {
	paths []string
	read  func() (T, error)
	log   *slog.Logger

	current atomic.Pointer[T]
	looked  atomic.Int64 // when, ns since start
	start   time.Time

	mu    sync.Mutex
	state []stamp // of the files, when they were read; guarded by mu
}

// stamp tells one content of a file from another. The kernel's clock has steps of some
// milliseconds, the number of a file that replaces another is its own.
type stamp struct {
	size  int64
	time  time.Time
	inode uint64
}

// New reads the value for the first time.
func New[T any](log *slog.Logger, read func() (T, error), paths ...string) (*Value[T], error) {
	v := &Value[T]{paths: paths, read: read, log: log, start: time.Now()}
	v.state = v.stamps()
	first, err := read()
	if err != nil {
		return nil, err
	}
	v.current.Store(&first)
	return v, nil
}

// Get is the value. Once a second it looks at the files first; files that cannot be
// read, or make no sense, change nothing, and are told once.
func (v *Value[T]) Get() T {
	now, last := int64(time.Since(v.start)), v.looked.Load()
	if now-last >= int64(every) && v.looked.CompareAndSwap(last, now) {
		v.look()
	}
	return *v.current.Load()
}

// Run asks for the value once a second, until ctx ends, so that who edits a file is told
// of a mistake though nobody needs it at that time.
func (v *Value[T]) Run(ctx context.Context) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			v.Get()
		case <-ctx.Done():
			return
		}
	}
}

// look reads the files if they have changed.
func (v *Value[T]) look() {
	v.mu.Lock()
	defer v.mu.Unlock()
	state := v.stamps()
	if slices.Equal(state, v.state) {
		return
	}
	v.state = state
	next, err := v.read()
	if err != nil {
		v.log.Warn("a file has changed and is of no use, going on with what it was", slog.Any("error", err))
		return
	}
	v.current.Store(&next)
	v.log.Info("files have changed and were read again", slog.Any("files", v.paths))
}

func (v *Value[T]) stamps() []stamp {
	list := make([]stamp, len(v.paths))
	for i, path := range v.paths {
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		list[i] = stamp{size: info.Size(), time: info.ModTime()}
		if sys, ok := info.Sys().(*syscall.Stat_t); ok {
			list[i].inode = sys.Ino
		}
	}
	return list
}
