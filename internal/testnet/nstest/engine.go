package nstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
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

// Docker runs a docker command of this engine and returns its standard output without the last newline. The test fails if the
// command fails.
func (e *Engine) Docker(tb testing.TB, args ...string) string {
	tb.Helper()
	out, err := e.Try(tb, args...)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// Try is like [Engine.Docker] for a command that may fail. The error includes its output.
func (e *Engine) Try(tb testing.TB, args ...string) (string, error) {
	tb.Helper()
	return e.run(tb, nil, args)
}

// Builder is one of Docker's two image builders.
type Builder string

// The builders, by what DOCKER_BUILDKIT has to be for them.
const (
	Classic  Builder = "0"
	BuildKit Builder = "1"
)

// Build builds an image from a directory with a Dockerfile.
func (e *Engine) Build(tb testing.TB, with Builder, tag, dir string) {
	tb.Helper()
	if _, err := e.run(tb, []string{"DOCKER_BUILDKIT=" + string(with)}, []string{"build", "--tag", tag, dir}); err != nil {
		tb.Fatal(err)
	}
}

func (e *Engine) run(tb testing.TB, env, args []string) (string, error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), runtimeLimit)
	defer cancel()
	path, err := exec.LookPath("/usr/bin/docker") // the distribution's comes with the engine
	if err != nil {
		path = lookUp(tb, "docker")
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(append(os.Environ(), env...), "DOCKER_HOST=unix://"+e.Socket(), "DOCKER_CONFIG="+e.dir)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("docker %s on %s: %w\n%s%s", strings.Join(args, " "), e.host.Name, err, &stdout, &stderr)
	}
	return strings.TrimSuffix(stdout.String(), "\n"), nil
}

// Run runs a container in the background, with options, image and command as in docker run, and returns its id. It is removed at
// the end of the test. If the test failed, its log is shown.
func (e *Engine) Run(tb testing.TB, args ...string) (id string) {
	tb.Helper()
	id = e.Docker(tb, append([]string{"run", "--detach"}, args...)...)
	tb.Cleanup(func() {
		tb.Helper()
		if tb.Failed() {
			tb.Logf("container %s:\n%s", strings.Join(args, " "), e.Log(tb, id))
		}
		_, err := e.Try(tb, "rm", "--force", "--volumes", id)
		if err != nil && !gone.MatchString(err.Error()) {
			tb.Error(err)
		}
	})
	return id
}

// Stop stops a container, if there is one.
func (e *Engine) Stop(tb testing.TB, id string) {
	tb.Helper()
	if _, err := e.Try(tb, "stop", id); err != nil && !gone.MatchString(err.Error()) {
		tb.Error(err)
	}
}

// gone matches what the engine says of a container that was run with --rm and has ended.
var gone = regexp.MustCompile(`No such container|is already in progress`)

// Log returns the output of a container so far, on both streams, in the engine's JSON.
func (e *Engine) Log(tb testing.TB, id string) string {
	tb.Helper()
	file, err := e.Try(tb, "inspect", "--format", "{{.LogPath}}", id)
	if err != nil {
		return err.Error()
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// WaitLog waits until a container has printed substring.
func (e *Engine) WaitLog(tb testing.TB, id, substring string) {
	tb.Helper()
	var text string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if text = e.Log(tb, id); strings.Contains(text, substring) {
			return
		}
	}
	tb.Fatalf("the container did not print %q:\n%s", substring, text)
}

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
