package admin_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"portredirector/internal/admin"
	"portredirector/internal/testnet/nstest"
)

// envAsk makes the test binary a process that asks all that it finds, and tells what it is told.
const envAsk = "ADMIN_ASK"

func TestMain(m *testing.M) {
	if os.Getenv(envAsk) != "" {
		fmt.Println(ask(context.Background()))
		os.Exit(0)
	}
	nstest.Main(m)
}

// ask finds processes and asks them.
func ask(ctx context.Context) string {
	pids, err := admin.Find()
	if err != nil {
		return err.Error()
	}
	asked, unhealthy, notes := admin.Report(ctx, pids)
	return fmt.Sprint(asked, " asked, unhealthy: ", unhealthy, notes)
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

func serve(t *testing.T, state func() (string, error)) {
	t.Helper()
	nstest.Require(t)
	s, err := admin.Serve(admin.Process{Health: state})
	nstest.Must(t, err)
	t.Cleanup(s.Close)
}

func TestHealthyAndUnhealthy(t *testing.T) {
	var unhealthy atomic.Bool
	serve(t, func() (string, error) {
		if unhealthy.Load() {
			return "", errors.New("one\ntwo")
		}
		return "it is\nold", nil
	})
	want := fmt.Sprintf("1 asked, unhealthy: map[] map[%d:it is; old]", os.Getpid())
	for range 3 {
		if got := askAs(t, nil); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	unhealthy.Store(true)
	want = fmt.Sprintf("1 asked, unhealthy: map[%d:one; two] map[]", os.Getpid())
	if got := askAs(t, nil); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestClose: nobody is there afterwards, and the name is free.
func TestClose(t *testing.T) {
	nstest.Require(t)
	for range 3 {
		s, err := admin.Serve(admin.Process{Health: func() (string, error) { return "", nil }})
		nstest.Must(t, err)
		s.Close()
	}
	if got := ask(t.Context()); got != "0 asked, unhealthy: map[] map[]" {
		t.Error(got)
	}
	if _, err := admin.Health(t.Context(), os.Getpid()); err == nil || !strings.Contains(err.Error(), "not ready") {
		t.Error(err)
	}
}

// TestOtherUser: a plain user is told nothing of root's process.
func TestOtherUser(t *testing.T) {
	serve(t, func() (string, error) { return "", nil })
	ids, err := os.ReadFile("/proc/self/uid_map")
	nstest.Must(t, err)
	if fields := strings.Fields(string(ids)); len(fields) == 3 && fields[2] == "1" {
		t.Skip("there is only one user")
	}
	want := fmt.Sprintf("1 asked, unhealthy: map[%d:it answers user 0, whose it is, and root] map[]", os.Getpid())
	if got := askAs(t, &syscall.Credential{Uid: 65534, Gid: 65534}); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestOtherNamespace: a process of another PID namespace finds nobody, though the network is the same.
func TestOtherNamespace(t *testing.T) {
	serve(t, func() (string, error) { return "", nil })
	if got := askAs(t, nil, "unshare", "--pid", "--fork", "--mount-proc"); got != "0 asked, unhealthy: map[] map[]" {
		t.Error(got)
	}
}
