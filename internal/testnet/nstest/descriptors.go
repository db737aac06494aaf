package nstest

import (
	"fmt"
	"os"
	"testing"
)

// Descriptors returns how many file descriptors a process has open.
func Descriptors(tb testing.TB, pid int) int {
	tb.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		tb.Fatal(err)
	}
	if pid == os.Getpid() {
		return len(entries) - 1 // without the one that it was read by
	}
	return len(entries)
}
