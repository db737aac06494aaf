package relay_test

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"portredirector/internal/relay"
	"portredirector/internal/testnet/nstest"
)

// envNobody tells TestRefusedPipes that it is the user nobody.
const envNobody = "RELAY_TEST_NOBODY"

// TestRefusedPipes relays bulk for a user to whom the kernel gives no large pipes any more, and then none at all.
func TestRefusedPipes(t *testing.T) {
	if os.Geteuid() == 0 { // to whom it refuses nothing
		const nobody = 65534
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestRefusedPipes$", "-test.v")
		cmd.Dir = "/"
		cmd.Env = append(os.Environ(), envNobody+"=yes")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	t.Run("two pages each", func(t *testing.T) {
		taken, size := 0, 0
		for size = 1 << 20; size == 1<<20; taken++ {
			if taken == 4096 {
				t.Skip("this user may have as many pipes as they like")
			}
			size = openPipe(t)
		}
		t.Logf("after %d pipes they hold %d bytes", taken, size)
		r := newRig(t, relay.Options{Loops: 1}, plain)
		nstest.Must(t, oneWay(r.peer, r.service))
		nstest.Must(t, oneWay(r.service, r.peer))
	})
	t.Run("none", func(t *testing.T) {
		var limit unix.Rlimit
		nstest.Must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
		low := limit
		low.Cur = uint64(descriptors(t) + 16)
		r := newRig(t, relay.Options{Loops: 1}, plain)
		nstest.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
		defer func() { nstest.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)) }()
		size := 1
		for size > 0 {
			size = openPipe(t)
		}
		nstest.Must(t, oneWay(r.peer, r.service))
		nstest.Must(t, oneWay(r.service, r.peer))
	})
}

// openPipe opens a pipe for the rest of the test, as large as it may be, and returns its size in bytes.
func openPipe(t *testing.T) int {
	t.Helper()
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_CLOEXEC) != nil {
		return 0
	}
	t.Cleanup(func() {
		_ = unix.Close(fds[0])
		_ = unix.Close(fds[1])
	})
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, 1<<20)
	size, err := unix.FcntlInt(uintptr(fds[1]), unix.F_GETPIPE_SZ, 0)
	nstest.Must(t, err)
	return size
}
