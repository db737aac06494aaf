package nstest

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"portredirector/internal/testnet"
)

// unavailable is the reason why there are no namespaces, or nil. [Main] sets it before any test runs.
var unavailable error

// Main runs the tests of a package isolated, see [testnet.Isolate], and exits. Where that is not permitted, it prints the reason
// and skips the tests that need a namespace. On a CI machine, which has CI=true in its environment, it fails.
func Main(m *testing.M) {
	if testnet.Isolated() {
		os.Exit(m.Run())
	}
	code, err := testnet.Isolate()
	if err == nil {
		syscall.Exit(code) // and not os.Exit, in which the race detector would sleep for a second
	}
	unavailable = err
	fmt.Fprintf(os.Stderr, "*** NO NETWORK NAMESPACES, TESTS CANNOT RUN: %v\n", err)
	fmt.Fprintln(os.Stderr, "*** permit user namespaces (sysctl kernel.apparmor_restrict_unprivileged_userns=0) or run as root")
	if onCI() {
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// Require skips the test where there are no namespaces for it.
func Require(tb testing.TB) {
	tb.Helper()
	switch {
	case unavailable != nil:
		tb.Skip("no network namespaces: ", unavailable)
	case !testnet.Isolated():
		tb.Fatal("the TestMain of this package does not call nstest.Main")
	}
}

// NewHost returns a host that is closed at the end of the test.
func NewHost(tb testing.TB, name string) *testnet.Host {
	tb.Helper()
	Require(tb)
	h, err := testnet.NewHost(name)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := h.Close(); err != nil {
			tb.Errorf("close host %s: %v", name, err)
		}
	})
	return h
}

func onCI() bool { return os.Getenv("CI") == "true" }
