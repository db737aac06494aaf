package supervisor_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/testnet/nstest"
)

// manager is a service manager that listens for notifications.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	path string
}

func newManager(t *testing.T) manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: path})
	nstest.Must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return manager{t, c, path}
}

// want waits for a notification that has a line.
func (m manager) want(line string) (all string) {
	m.t.Helper()
	nstest.Must(m.t, m.conn.SetReadDeadline(time.Now().Add(20*time.Second)))
	for {
		b := make([]byte, 4096)
		n, err := m.conn.Read(b)
		if err != nil {
			m.t.Fatalf("no %s: %v", line, err)
		}
		if all = string(b[:n]); strings.HasPrefix(all, line) || strings.Contains(all, "\n"+line) {
			return all
		}
	}
}

// TestNotify wants a service manager to be told of each step.
func TestNotify(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	f := newFake(t, "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=300000")
	m.want("READY=1")
	m.want("WATCHDOG=1")
	for range 2 {
		f.wantReload()
		if said := m.want("RELOADING=1"); !regexp.MustCompile(`\nMONOTONIC_USEC=[1-9][0-9]*\n`).MatchString(said) {
			t.Errorf("%q", said)
		}
		if said := m.want("READY=1"); !strings.Contains(said, "STATUS=version fake serves "+f.file) {
			t.Errorf("%q", said)
		}
	}
	nstest.Must(t, os.WriteFile(f.file, []byte("]"), 0o600))
	f.Signal(syscall.SIGHUP)
	m.want("RELOADING=1")
	if said := m.want("READY=1"); !strings.Contains(said, "STATUS=reload has failed: "+f.file) {
		t.Errorf("%q", said)
	}
	m.want("WATCHDOG=1")
	v := f.visit(home)
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", v.worker))
	nstest.Must(t, err)
	if strings.Contains(string(env), "NOTIFY_SOCKET") || strings.Contains(string(env), "WATCHDOG") {
		t.Error("a worker could speak with the service manager")
	}
	nstest.Must(t, v.Close())
	f.Signal(syscall.SIGTERM)
	m.want("STOPPING=1")
	f.wantEnd()
}

// TestWatchdogBites stops a worker: the watchdog is told nothing more.
func TestWatchdogBites(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	f := newFake(t, "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=300000")
	m.want("WATCHDOG=1")
	v := f.visit(home)
	nstest.Must(t, syscall.Kill(v.worker, syscall.SIGSTOP))
	quiet := 0
	nstest.WaitFor(t, "silence", func() bool {
		nstest.Must(t, m.conn.SetReadDeadline(time.Now().Add(400*time.Millisecond)))
		if n, err := m.conn.Read(make([]byte, 4096)); err != nil || n == 0 {
			quiet++
		} else {
			quiet = 0
		}
		return quiet == 2
	})
	nstest.Must(t, syscall.Kill(v.worker, syscall.SIGCONT))
	m.want("WATCHDOG=1")
}

// TestSocketActivation gives a supervisor listening sockets: it uses the one that fits, also after a reload, and closes the other.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	f := prepareFake(t)
	f.write(fakeFile{"a": {Addresses: []string{"localhost:80", "127.0.0.1:82"}}})
	path, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(path, "-E", "GORACE=atexit_sleep_ms=0", "-l", "127.0.0.1:81", "-l", home, f.program, "run", f.file)
	f.Process = nstest.StartCmd(t, f.host, cmd)
	f.WaitOutput("Listening on " + home)
	first := f.dial(home) // starts it
	f.WaitOutput("workers serve")
	first.learn()
	nstest.Must(t, first.Close())
	f.WaitOutput("closing it\" address=127.0.0.1:81")
	if strings.Contains(f.Output(), "address="+home) {
		t.Error("the socket that fits was not used")
	}
	for range 2 {
		f.visit(home).talk()
		f.visit("127.0.0.1:82").talk()
		if !f.refused("127.0.0.1:81") {
			t.Error("a socket is left")
		}
		f.wantReload()
	}
}
