package nstest_test

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// envForbid makes the test binary forbid itself all namespaces and then run the tests after all.
const envForbid = "NSTEST_FORBID_NAMESPACES"

func TestMain(m *testing.M) {
	if os.Getenv(envForbid) == "" {
		nstest.Main(m)
	}
	if !testnet.Isolated() {
		code, err := testnet.Isolate()
		if err != nil {
			panic(err)
		}
		os.Exit(code)
	}
	panic(runForbidden())
}

// runForbidden starts the test binary anew where no user namespace can be made, and without the capabilities of root.
func runForbidden() error {
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, 1, 0, 0, 0); err != nil { // SECBIT_NOROOT, see capabilities(7)
		return err
	}
	if err := errors.Join(os.Unsetenv(envForbid), os.Unsetenv(testnet.EnvIsolated)); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
}

func TestMainWithoutNamespaces(t *testing.T) {
	nstest.Require(t)
	for _, tt := range []struct {
		ci   string
		code int
		want string
	}{
		{"", 0, "--- SKIP: TestDescriptors"},
		{"true", 1, "NO NETWORK NAMESPACES"},
	} {
		t.Run("CI="+tt.ci, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestDescriptors$", "-test.v")
			cmd.Env = append(os.Environ(), envForbid+"=1", testnet.EnvIsolated+"=", "CI="+tt.ci, "GORACE=atexit_sleep_ms=0")
			out, _ := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != tt.code || !strings.Contains(string(out), tt.want) {
				t.Errorf("exit code %d, want %d and %q in\n%s", code, tt.code, tt.want, out)
			}
		})
	}
}
