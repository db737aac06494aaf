package nstest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/testnet"
)

// Iptables is the form of an engine's rules in the kernel.
type Iptables string

// The forms that there are; both are programs of Debian's iptables.
const (
	IptablesNft    Iptables = "xtables-nft-multi"
	IptablesLegacy Iptables = "xtables-legacy-multi"
)

// Engine is a Docker engine in a host, with images and containers of its own. It runs in a mount namespace of its own, which
// identifies all that belongs to it.
type Engine struct {
	host   *testnet.Host
	dir    string   // its data, and its socket
	keeper *Process // keeps the mount namespace, and starts the daemon again until it is to end
}

// keep is the keeper's script. Its arguments are the directory and the command of the daemon.
const keep = `mount -t tmpfs tmpfs /run || exit
	until [ -e "$0/ending" ]; do "$@" || exit; done 2>&1 | grep --line-buffered -v level=info
	[ -e "$0/ending" ] && exec sleep infinity`

// StartEngine starts an engine in the host. At the end of the test it is ended with its containers, and the test fails if a process
// or a mount is left. The test is skipped where an engine is not installed or not permitted, and fails on a CI machine.
func StartEngine(tb testing.TB, h *testnet.Host, form Iptables) *Engine {
	tb.Helper()
	requireAllIDs(tb)
	dockerd, iptables := lookUp(tb, "dockerd"), lookUp(tb, string(form))
	dir, err := os.MkdirTemp("", "engine-") //nolint:usetesting // a socket has no room for the name of a test
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	e := &Engine{host: h, dir: dir}
	bin := e.path("bin")
	err = os.Mkdir(bin, 0o755)
	for _, name := range []string{"iptables", "ip6tables"} {
		err = errors.Join(err, os.Symlink(iptables, filepath.Join(bin, name)))
	}
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(lookUp(tb, "unshare"), "--mount", "sh", "-c", keep, dir, dockerd,
		"--data-root", e.path("data"), "--exec-root", e.path("exec"), "--pidfile", e.path("pid"), "--host", "unix://"+e.Socket(),
		"--live-restore", "--log-level", "error", "--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", e.cgroup())
	cmd.Env = append(os.Environ(), "PATH="+bin+":/usr/sbin:/usr/bin:/sbin:/bin")
	e.keeper = StartCmd(tb, h, cmd)
	tb.Cleanup(func() { e.stop(tb) })
	e.wait(tb)
	return e
}

// requireAllIDs makes sure that the tests run as the machine's root, though in a user namespace: cgroups are that one's.
func requireAllIDs(tb testing.TB) {
	tb.Helper()
	ids, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		tb.Fatal(err)
	}
	var inside, outside, size int
	if _, err := fmt.Sscan(string(ids), &inside, &outside, &size); err == nil && outside == 0 {
		return
	}
	if onCI() {
		tb.Fatal("a container engine needs root")
	}
	tb.Skip("A CONTAINER ENGINE NEEDS ROOT")
}

// Socket returns the path of the engine's socket.
func (e *Engine) Socket() string { return e.path("docker.sock") }

func (e *Engine) cgroup() string { return "/" + filepath.Base(e.dir) }

func (e *Engine) path(name string) string { return filepath.Join(e.dir, name) }

// wait waits until the engine answers.
func (e *Engine) wait(tb testing.TB) {
	tb.Helper()
	for deadline := time.Now().Add(runtimeLimit); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("unix", e.Socket())
		if err == nil {
			c.Close()
			break
		}
		select {
		case <-e.keeper.ended:
		default:
			if time.Now().Before(deadline) {
				continue
			}
		}
		tb.Fatalf("the engine on %s does not start: %v", e.host.Name, err)
	}
	e.Docker(tb, "version") // is answered as soon as it is ready
}

// end ends the daemon.
func (e *Engine) end(tb testing.TB) {
	tb.Helper()
	text, err := os.ReadFile(e.path("pid"))
	if err != nil {
		tb.Error(err)
		return
	}
	pid, err := strconv.Atoi(string(text))
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGTERM)
	}
	for deadline := time.Now().Add(runtimeLimit); err == nil; time.Sleep(10 * time.Millisecond) {
		if err = syscall.Kill(pid, 0); time.Now().After(deadline) {
			err = errors.New("it is still there")
		}
	}
	if !errors.Is(err, syscall.ESRCH) {
		tb.Errorf("end the engine on %s: %v", e.host.Name, err)
	}
}

// Restart ends the engine's daemon and starts it anew, whereupon it writes its rules again. Containers live on.
func (e *Engine) Restart(tb testing.TB) {
	tb.Helper()
	e.end(tb)
	e.wait(tb)
}
