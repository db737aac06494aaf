package health_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/health"
	"portredirector/internal/testnet/nstest"
)

// envAsk makes the test binary a process that asks all that it finds, and tells what it is told.
const envAsk = "HEALTH_ASK"

func TestMain(m *testing.M) {
	if os.Getenv(envAsk) != "" {
		fmt.Println(ask(context.Background()))
		os.Exit(0)
	}
	nstest.Main(m)
}

// ask finds processes and asks them.
func ask(ctx context.Context) string {
	pids, err := health.Find()
	if err != nil {
		return err.Error()
	}
	asked, unhealthy := health.Report(ctx, pids)
	return fmt.Sprint(asked, " asked, unhealthy: ", unhealthy)
}

// askAs asks from another process.
func askAs(t *testing.T, as *syscall.Credential, before ...string) string {
	t.Helper()
	path, err := os.Executable()
	nstest.Must(t, err)
	if as != nil {
		path = "/proc/self/exe" // where that user may not go
	}
	args := append(before, path)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), envAsk+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func serve(t *testing.T, state func() error) {
	t.Helper()
	nstest.Require(t)
	s, err := health.Serve(state)
	nstest.Must(t, err)
	t.Cleanup(s.Close)
}

func TestHealthyAndUnhealthy(t *testing.T) {
	var unhealthy atomic.Bool
	serve(t, func() error {
		if unhealthy.Load() {
			return errors.New("one\ntwo")
		}
		return nil
	})
	want := "1 asked, unhealthy: map[]"
	for range 3 {
		if got := askAs(t, nil); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	unhealthy.Store(true)
	want = fmt.Sprintf("1 asked, unhealthy: map[%d:one; two]", os.Getpid())
	if got := askAs(t, nil); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestClose: nobody is there afterwards, and the name is free.
func TestClose(t *testing.T) {
	nstest.Require(t)
	for range 3 {
		s, err := health.Serve(func() error { return nil })
		nstest.Must(t, err)
		s.Close()
	}
	if got := ask(t.Context()); got != "0 asked, unhealthy: map[]" {
		t.Error(got)
	}
	if err := health.Ask(t.Context(), os.Getpid()); err == nil || !strings.Contains(err.Error(), "not ready") {
		t.Error(err)
	}
}

// TestOtherUser: a plain user is told nothing of root's process.
func TestOtherUser(t *testing.T) {
	serve(t, func() error { return nil })
	ids, err := os.ReadFile("/proc/self/uid_map")
	nstest.Must(t, err)
	if fields := strings.Fields(string(ids)); len(fields) == 3 && fields[2] == "1" {
		t.Skip("there is only one user")
	}
	want := fmt.Sprintf("1 asked, unhealthy: map[%d:it answers user 0, whose it is, and root]", os.Getpid())
	if got := askAs(t, &syscall.Credential{Uid: 65534, Gid: 65534}); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestOtherNamespace: a process of another PID namespace finds nobody, though the network is the same.
func TestOtherNamespace(t *testing.T) {
	serve(t, func() error { return nil })
	if got := askAs(t, nil, "unshare", "--pid", "--fork", "--mount-proc"); got != "0 asked, unhealthy: map[]" {
		t.Error(got)
	}
}

// TestSquatted: a name that another process has taken is no daemon, and its owner says so.
func TestSquatted(t *testing.T) {
	nstest.Require(t)
	ns, err := health.Namespace()
	nstest.Must(t, err)
	for _, pid := range []int{os.Getpid(), os.Getppid()} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: health.Name(ns, pid)})
		nstest.Must(t, err)
		t.Cleanup(func() { _ = l.Close() })
	}
	if _, err := health.Serve(func() error { return nil }); err == nil || !strings.Contains(err.Error(), "ss -xlp") {
		t.Errorf("it serves: %v", err)
	}
	if err := health.Ask(t.Context(), os.Getppid()); err == nil || !strings.Contains(err.Error(), "has taken its name") {
		t.Error(err)
	}
	// This process has its own name, and is silent.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := health.Ask(ctx, os.Getpid()); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Error(err)
	}
	if asked, unhealthy := health.Report(t.Context(), []int{os.Getppid()}); asked != 0 || len(unhealthy) != 0 {
		t.Errorf("%d asked, %v", asked, unhealthy)
	}
}

func TestFind(t *testing.T) {
	const text = `Num       RefCount Protocol Flags    Type St Inode Path
00000000d5b0ba3f: 00000002 00000000 00010000 0001 01 28112 @portredirector-health/4026532/7
00000000d5b0ba3f: 00000003 00000000 00000000 0001 03 28113 @portredirector-health/4026532/7
00000000d5b0ba3f: 00000002 00000000 00010000 0001 01 28112 @portredirector-health/4026532/3
00000000d5b0ba3f: 00000002 00000000 00010000 0001 01 28112 @portredirector-health/4026531/9
00000000d5b0ba3f: 00000002 00000000 00010000 0001 01 28112 @portredirector-health/4026532/x
00000000d5b0ba3f: 00000002 00000000 00010000 0001 01 28112 @portredirector-health/4026532/-4
00000000d5b0ba3f: 00000002 00000000 00010000 0001 01 28112 /run/other
`
	if diff := cmp.Diff([]int{3, 7}, health.InText(text, "4026532")); diff != "" {
		t.Error(diff)
	}
}
