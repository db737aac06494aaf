package e2e_test

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// versions build two versions of the program, each for the first test that needs it.
type versions [2]func() (path string, err error)

// newVersions has build build the versions.
func newVersions(build func(name string, flags ...string) (path string, err error)) (v versions) {
	for i, name := range versionNames {
		v[i] = sync.OnceValues(func() (path string, err error) {
			return build("portredirector-"+name, "-ldflags", "-X main.version="+name)
		})
	}
	return v
}

var versionNames = [2]string{"one", "two"}

var (
	builds      = newVersions(buildProgram)
	plainBuilds = newVersions(buildPlain) // for load
)

// supervised is a supervisor under test, with a file and a program of its own.
type supervised struct {
	*daemon

	host          *testnet.Host
	file, program string
	builds        versions
}

// supervise starts `portredirector run` and waits until its workers serve.
func supervise(t *testing.T, h *testnet.Host, content string) *supervised {
	t.Helper()
	return superviseBuild(t, h, content, builds)
}

// superviseBuild is like supervise with the first of other builds.
func superviseBuild(t *testing.T, h *testnet.Host, content string, of versions) *supervised {
	t.Helper()
	s := newSupervised(t, h, content, of)
	s.WaitOutput("workers serve")
	return s
}

// newSupervised starts `portredirector run`, with more variables in its environment.
func newSupervised(t *testing.T, h *testnet.Host, content string, of versions, env ...string) *supervised {
	t.Helper()
	dir := t.TempDir()
	s := &supervised{host: h, file: filepath.Join(dir, "portredirector.toml"), program: filepath.Join(dir, "portredirector"), builds: of}
	s.install(t, 0)
	s.write(t, content)
	cmd := exec.Command(s.program, "run", s.file)
	cmd.Env = append(append(os.Environ(), "GORACE=atexit_sleep_ms=0", "STATE_DIRECTORY="+t.TempDir()), env...)
	s.daemon = &daemon{Process: nstest.StartCmd(t, h, cmd)}
	t.Cleanup(func() {
		if !s.ended {
			s.Signal(syscall.SIGTERM)
			s.wantEnd(t)
		}
	})
	return s
}

// install puts a version of the program into the place of the one on disk.
func (s *supervised) install(t *testing.T, build int) {
	t.Helper()
	path, err := s.builds[build]()
	nstest.Must(t, err)
	b, err := os.ReadFile(path)
	nstest.Must(t, err)
	s.put(t, b, 0o755)
}

// put puts a file into the place of the program on disk, as a package manager does.
func (s *supervised) put(t *testing.T, b []byte, mode os.FileMode) {
	t.Helper()
	nstest.Must(t, nstest.Install(s.program, b, mode))
}

// write writes the configuration file.
func (s *supervised) write(t *testing.T, content string) {
	t.Helper()
	nstest.Must(t, os.WriteFile(s.file, []byte(content), 0o600))
}

// reload reloads, and returns what the command prints.
func (s *supervised) reload() (said string, err error) {
	path, err := s.builds[0]()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(path, "reload")
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := s.host.Start(cmd); err != nil {
		return "", err
	}
	err = cmd.Wait()
	return strings.TrimSpace(out.String()), err
}

// wantReload reloads, which must succeed.
func (s *supervised) wantReload(t *testing.T) {
	t.Helper()
	if said, err := s.reload(); err != nil {
		t.Errorf("reload: %v: %s", err, said)
	}
}

// upgrade installs a version and reloads.
func (s *supervised) upgrade(t *testing.T, build int) {
	t.Helper()
	s.install(t, build)
	said, err := s.reload()
	if want := "version " + versionNames[build] + " serves"; err != nil || !strings.HasPrefix(said, want) {
		t.Errorf("reload: %v: %q, want %q", err, said, want)
	}
}

// workers returns the process ids of the workers.
func (s *supervised) workers(t *testing.T) (pids []int) {
	t.Helper()
	// A thread other than the first may have started one.
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.Pid()))
	nstest.Must(t, err)
	list := ""
	for _, thread := range threads {
		b, _ := os.ReadFile(thread) // the thread may have ended
		list += " " + string(b)
	}
	for f := range strings.FieldsSeq(list) {
		pid, err := strconv.Atoi(f)
		nstest.Must(t, err)
		pids = append(pids, pid)
	}
	return pids
}

// waitWorkers waits until there are so many workers.
func (s *supervised) waitWorkers(t *testing.T, n int) {
	t.Helper()
	nstest.WaitFor(t, fmt.Sprint(n, " workers"), func() bool { return len(s.workers(t)) == n })
}

// echoing serves connections that get back what they send.
func echoing(t *testing.T, l *net.TCPListener) {
	t.Helper()
	each(t, l, func(c *net.TCPConn) {
		_ = c.SetDeadline(time.Time{})
		_, _ = io.Copy(c, c)
	})
}

// section returns a section of a file that has options of the command line.
func section(name, options string) string {
	values := make(map[string][]string)
	words := strings.Fields(options)
	for i := 0; i < len(words); i++ {
		key := strings.TrimLeft(words[i], "-")
		if long, ok := map[string]string{"c": "connect", "l": "listen", "p": "port"}[key]; ok {
			key = long
		}
		if i+1 == len(words) || strings.HasPrefix(words[i+1], "-") {
			values[key] = nil
			continue
		}
		i++
		values[key] = append(values[key], strconv.Quote(words[i]))
	}
	text := "[" + name + "]\n"
	for _, key := range slices.Sorted(maps.Keys(values)) {
		switch list := values[key]; {
		case len(list) == 0:
			text += key + " = true\n"
		case key == "port" || len(list) > 1:
			text += key + " = [" + strings.Join(list, ", ") + "]\n"
		default:
			text += key + " = " + list[0] + "\n"
		}
	}
	return text
}
