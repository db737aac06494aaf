package supervisor_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/testnet/nstest"
)

// manager is a service manager that listens for notifications.
type manager struct {
	t    *testing.T
	said chan string
	path string
}

func newManager(t *testing.T) manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: path})
	nstest.Must(t, err)
	said := make(chan string, 1000)
	var reading sync.WaitGroup
	reading.Go(func() { // always: the kernel keeps few messages
		for b := make([]byte, 4096); ; {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			said <- string(b[:n])
		}
	})
	t.Cleanup(func() {
		_ = c.Close()
		reading.Wait()
	})
	return manager{t, said, path}
}

// want waits for a notification that has a line.
func (m manager) want(line string) (all string) {
	m.t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case all = <-m.said:
		case <-late:
			m.t.Fatalf("no %s", line)
		}
		if strings.HasPrefix(all, line) || strings.Contains(all, "\n"+line) {
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
		select {
		case <-m.said:
			quiet = 0
		case <-time.After(400 * time.Millisecond):
			quiet++
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

// TestDeafManager has a service manager that does not read: the supervisor serves and reloads.
func TestDeafManager(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: path})
	nstest.Must(t, err)
	defer c.Close()
	full, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: path})
	nstest.Must(t, err)
	defer full.Close()
	for err == nil {
		nstest.Must(t, full.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
		_, err = full.Write([]byte("STATUS=none"))
	}
	f := newFake(t, "NOTIFY_SOCKET="+path)
	f.wantReload()
	nstest.Must(t, f.visit(home).Close())
}
