// Package reload reads files again when they change.
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

// every is the shortest time between two checks of the files.
const every = time.Second

// Value holds a value that was read from files. It is read again when one of them has changed.
type Value[T any] struct {
	paths []string
	read  func() (T, error)
	log   *slog.Logger

	current atomic.Pointer[T]
	looked  atomic.Int64 // time of the last check, in ns since start
	start   time.Time

	mu    sync.Mutex
	state []stamp // of the files when they were last read; guarded by mu
}

// stamp distinguishes the contents of a file. Time alone would not do: the kernel's clock has steps of
// some milliseconds.
type stamp struct {
	size  int64
	time  time.Time
	inode uint64
}

// New reads a value for the first time.
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

// Get returns the value. Once a second it checks the files first. If they cannot be read or parsed, the
// value stays, and the error is logged once.
func (v *Value[T]) Get() T {
	now, last := int64(time.Since(v.start)), v.looked.Load()
	if now-last >= int64(every) && v.looked.CompareAndSwap(last, now) {
		v.check()
	}
	return *v.current.Load()
}

// Run checks the files once a second until ctx is canceled, so that a mistake is logged even while nobody
// calls Get.
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

// check reads the files if they have changed.
func (v *Value[T]) check() {
	v.mu.Lock()
	defer v.mu.Unlock()
	state := v.stamps()
	if slices.Equal(state, v.state) {
		return
	}
	v.state = state
	next, err := v.read()
	if err != nil {
		v.log.Warn("changed file is invalid, the previous content stays in use", slog.Any("error", err))
		return
	}
	v.current.Store(&next)
	v.log.Info("files have changed and were read again", slog.Any("files", v.paths))
}

// stamps returns the stamps of the files; that of a missing one is zero.
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
