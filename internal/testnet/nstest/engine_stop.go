package nstest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// stop removes the containers, ends the daemon and looks whether anything is left.
func (e *Engine) stop(tb testing.TB) {
	tb.Helper()
	select {
	case <-e.keeper.ended: // it did not even start
		return
	default:
	}
	if left, err := e.Try(tb, "ps", "--all", "--quiet"); err != nil {
		tb.Error(err)
	} else if left != "" {
		if _, err := e.Try(tb, append([]string{"rm", "--force"}, strings.Fields(left)...)...); err != nil {
			tb.Error(err)
		}
	}
	if err := os.WriteFile(e.path("ending"), nil, 0o600); err != nil {
		tb.Error(err)
	}
	e.end(tb)
	e.wantNothingLeft(tb)
}

// wantNothingLeft fails the test if there are processes in the mount namespace of the engine, or mounts below its directory.
func (e *Engine) wantNothingLeft(tb testing.TB) {
	tb.Helper()
	var left []string
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if left = e.left(); len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			tb.Errorf("the engine on %s has left:\n%s", e.host.Name, strings.Join(left, "\n"))
			break
		}
	}
	// The engine makes this one, for all of its containers, and leaves it.
	for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		dirs, _ := filepath.Glob(pattern + e.cgroup())
		for _, dir := range dirs {
			if err := os.Remove(dir); err != nil {
				tb.Error(err)
			}
		}
	}
}

// left lists what belongs to the engine but for the process that keeps its mounts.
func (e *Engine) left() (left []string) {
	keeper := fmt.Sprintf("/proc/%d/", e.keeper.Pid())
	own, err := os.Readlink(keeper + "ns/mnt")
	if err != nil {
		return []string{err.Error()}
	}
	namespaces, _ := filepath.Glob("/proc/[0-9]*/ns/mnt")
	for _, ns := range namespaces {
		is, err := os.Readlink(ns)
		if err == nil && is == own && !strings.HasPrefix(ns, keeper) {
			name, _ := os.ReadFile(filepath.Join(ns, "../../cmdline"))
			left = append(left, string(bytes.ReplaceAll(name, []byte{0}, []byte(" "))))
		}
	}
	mounts, err := os.ReadFile(keeper + "mounts")
	if err != nil {
		return append(left, err.Error())
	}
	for line := range strings.Lines(string(mounts)) {
		// A daemon that was restarted leaves its directory mounted on itself, and what held the host's network for a container.
		fields := strings.Fields(line)
		if at := fields[1]; strings.HasPrefix(at, e.dir) && at != e.path("data") && at != e.path("exec/netns/default") {
			left = append(left, strings.TrimSpace(line))
		}
	}
	return left
}
