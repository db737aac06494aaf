package nstest_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// recorder is the TB of a test that may fail or be skipped without consequences.
type recorder struct {
	testing.TB // of the real test, for the methods that are not below

	mu       sync.Mutex
	failed   bool
	skipped  bool
	log      strings.Builder
	cleanups []func()
}

// record runs a test function, and its cleanups, and returns what became of it.
func record(tb testing.TB, test func(tb testing.TB)) *recorder {
	r := &recorder{TB: tb}
	r.run(func() { test(r) })
	for len(r.cleanups) > 0 {
		last := len(r.cleanups) - 1
		cleanup := r.cleanups[last]
		r.cleanups = r.cleanups[:last]
		r.run(cleanup)
	}
	return r
}

// run runs fn where FailNow may end the goroutine.
func (r *recorder) run(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	<-done
}

// check fails tb unless the recorded test failed, and its log has all of the texts.
func (r *recorder) check(tb testing.TB, texts ...string) {
	tb.Helper()
	if !r.failed {
		tb.Error("did not fail")
	}
	for _, text := range texts {
		if !strings.Contains(r.log.String(), text) {
			tb.Errorf("log does not have %q:\n%s", text, r.log.String())
		}
	}
}

func (r *recorder) Cleanup(fn func()) { r.cleanups = append(r.cleanups, fn) }

func (r *recorder) Logf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(&r.log, format+"\n", args...)
}

func (r *recorder) Errorf(format string, args ...any) {
	r.Logf(format, args...)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }

func (r *recorder) Skipf(format string, args ...any) {
	r.Logf(format, args...)
	r.skipped = true
	runtime.Goexit()
}

func (r *recorder) Skipped() bool { return r.skipped }
