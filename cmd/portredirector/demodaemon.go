package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"portredirector/internal/testnet"
)

// startDaemon starts this program in a host and waits until it is ready. The returned function ends it
// and waits for that.
func startDaemon(ctx context.Context, h *testnet.Host, args ...string) (stop func(), err error) {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...) //nolint:gosec // ourselves
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, testnet.EnvIsolated+"=") })
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := h.Start(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	lines := bufio.NewScanner(stderr)
	var said []string
	for lines.Scan() {
		said = append(said, lines.Text())
		if strings.Contains(lines.Text(), args[0]+" is ready") {
			drained := make(chan struct{})
			go func() {
				defer close(drained)
				_, _ = io.Copy(io.Discard, stderr)
			}()
			return func() {
				_ = cmd.Process.Signal(syscall.SIGTERM)
				<-drained
				_ = cmd.Wait()
			}, nil
		}
	}
	_ = cmd.Wait()
	return nil, fmt.Errorf("%s on %s did not start: %s", args[0], h.Name, strings.Join(said, "; "))
}
