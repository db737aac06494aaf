package e2e_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"portredirector/internal/testnet/nstest"
)

// Capabilities, as in /proc/PID/status (capabilities(7)).
const (
	nothing        = "0000000000000000"
	netAdmin       = "0000000000001000"
	netAdminAndLow = "0000000000001400" // and CAP_NET_BIND_SERVICE, for peers from ports below 1024
)

// TestPrivileges checks that, started as root, each thread of a server has only the capabilities that it needs, and of a client
// none, and that neither can regain them.
func TestPrivileges(t *testing.T) {
	t.Parallel()
	c := newChain(t, loopback80)
	c.connect(t).talk(t)
	wantPrivileges(t, c.server.Pid(), netAdminAndLow)
	wantPrivileges(t, c.client.Pid(), nothing)
	// A peer from a port that is root's is seen as it is.
	from := netip.AddrPortFrom(c.alice.addr, 600)
	conn, err := dialFrom(c.alice, from, c.alice.at(80))
	nstest.Must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	if seen := remoteAddr(accept(t, c.service)); seen != from {
		t.Errorf("the service saw %v, but the peer is %v", seen, from)
	}
}

// TestPlainUser runs a server as a plain user that has CAP_NET_ADMIN and nothing else.
func TestPlainUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := listen(t, w.m2, loopback80)
	path, err := program()
	nstest.Must(t, err)
	copied := filepath.Join(t.TempDir(), "portredirector") // where the user may go
	b, err := os.ReadFile(path)
	nstest.Must(t, err)
	nstest.Must(t, nstest.Install(copied, b, 0o755))
	for dir := filepath.Dir(copied); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		nstest.Must(t, os.Chmod(dir, 0o755))
	}
	cmd := exec.Command("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
		"--inh-caps", "-all,+net_admin", "--ambient-caps", "+net_admin", "--bounding-set", "-all,+net_admin",
		copied, "server", "-v", "-l", linkPort, "-p", "80")
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	p := nstest.StartCmd(t, w.m2, cmd)
	p.WaitOutput("server is ready")
	w.client(t, "-p 80")
	newSession(t, w.alice, 80, service).talk(t)
	wantPrivileges(t, p.Pid(), netAdmin)
	// The port of this peer may be bound to by root alone, so it comes from another.
	conn, err := dialFrom(w.alice, netip.AddrPortFrom(w.alice.addr, 600), w.alice.at(80))
	nstest.Must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	if seen := remoteAddr(accept(t, service)); seen.Addr() != w.alice.addr {
		t.Errorf("the service saw %v, but the peer is %v", seen, w.alice.addr)
	}
	p.WaitOutput("is not permitted")
	p.Signal(os.Interrupt)
	if code := p.Wait(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// wantPrivileges fails the test unless every thread of a process has these capabilities, and none is to be had by others.
func wantPrivileges(t *testing.T, pid int, capabilities string) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	nstest.Must(t, err)
	if len(threads) < 2 {
		t.Errorf("%d threads", len(threads))
	}
	for _, path := range threads {
		b, err := os.ReadFile(path)
		nstest.Must(t, err)
		for _, want := range []string{
			"CapInh:\t" + nothing, "CapPrm:\t" + capabilities, "CapEff:\t" + capabilities, "CapAmb:\t" + nothing, "NoNewPrivs:\t1",
		} {
			if !strings.Contains(string(b), want+"\n") {
				t.Errorf("%s lacks %q", path, want)
			}
		}
	}
}
