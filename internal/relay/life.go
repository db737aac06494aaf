package relay

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// life tracks what is live in an engine: pairs, prefaces and goroutines.
type life struct {
	log *slog.Logger

	ctx context.Context //nolint:containedctx // canceled when Shutdown's deadline expires, as net/http's BaseContext
	cut context.CancelFunc

	drains context.Context //nolint:containedctx // canceled by Shutdown
	drain  context.CancelFunc

	retires context.Context //nolint:containedctx // canceled by Retire and by Shutdown
	retire  context.CancelFunc

	mu     sync.RWMutex
	closed bool // the loops have ended; guarded by mu

	live  sync.WaitGroup
	pairs atomic.Int64
}

func newLife(log *slog.Logger) *life {
	v := &life{log: log}
	if log == nil {
		v.log = slog.New(slog.DiscardHandler)
	}
	v.ctx, v.cut = context.WithCancel(context.Background())
	v.drains, v.drain = context.WithCancel(context.Background())
	v.retires, v.retire = context.WithCancel(v.drains)
	return v
}

// enter registers one more pair, preface or goroutine. It returns false if the engine
// is closed.
func (v *life) enter() bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.closed {
		return false
	}
	v.live.Add(1)
	return true
}

// close makes enter fail from now on.
func (v *life) close() {
	v.mu.Lock()
	v.closed = true
	v.mu.Unlock()
	v.cut()
}

// endPair unregisters a pair and calls its Done.
func (v *life) endPair(done func(Result), r Result) {
	defer v.live.Done()
	v.pairs.Add(-1)
	if done != nil {
		done(r)
	}
}

// endPreface unregisters a preface and calls its OnError.
func (v *life) endPreface(onError func(error), err error) {
	defer v.live.Done()
	onError(err)
}

// start runs f on a goroutine of its own, in place of a registered pair or preface.
func (v *life) start(f func(context.Context)) {
	go func() {
		defer v.live.Done()
		defer v.recoverPanic()
		f(v.ctx)
	}()
}

// recoverPanic recovers a panic in a callback and logs it. It must be deferred.
func (v *life) recoverPanic() {
	if p := recover(); p != nil {
		v.log.Error("a connection's handler panicked", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
	}
}

// draining reports whether Shutdown was called.
func (v *life) draining() bool { return v.drains.Err() != nil }

// retired reports whether Retire or Shutdown was called.
func (v *life) retired() bool { return v.retires.Err() != nil }
