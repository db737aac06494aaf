package nstest

import (
	"testing"
	"time"
)

// Must fails the test at the first error that is not nil.
func Must(tb testing.TB, errs ...error) {
	tb.Helper()
	for _, err := range errs {
		if err != nil {
			tb.Fatal(err)
		}
	}
}

// WaitFor waits until cond reports true, and fails the test after a minute.
func WaitFor(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(3 * patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if cond() {
			return
		}
	}
	tb.Fatalf("waited %v in vain: %s", 3*patience, what)
}
