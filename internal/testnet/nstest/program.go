package nstest

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"portredirector/internal/testnet"
)

// runtimeLimit bounds the run time of a program.
const runtimeLimit = time.Minute

// Run runs a program in the host and returns its standard output. The test fails if the exit code is not 0. The test is skipped
// if the program is not installed, and fails on a CI machine.
func Run(tb testing.TB, h *testnet.Host, name string, args ...string) string {
	tb.Helper()
	// Not the context of the test, which has ended when a cleanup runs.
	ctx, cancel := context.WithTimeout(context.Background(), runtimeLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, lookUp(tb, name), args...)
	cmd.WaitDelay = 20 * time.Second // for a grandchild that keeps the output open
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := h.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		tb.Fatalf("%s %s on %s: %v\n%s%s", name, strings.Join(args, " "), h.Name, err, &stdout, &stderr)
	}
	return stdout.String()
}

// lookUp finds a program, also where a plain user's PATH does not lead.
func lookUp(tb testing.TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/local/sbin/", "/usr/sbin/", "/sbin/"} {
		if err == nil {
			break
		}
		path, err = exec.LookPath(dir + name)
	}
	switch {
	case err == nil:
	case onCI():
		tb.Fatalf("program %s is not installed", name)
	default:
		tb.Skipf("PROGRAM %s IS NOT INSTALLED", name)
	}
	return path
}
