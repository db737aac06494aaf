package sandbox_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"portredirector/internal/sandbox"
)

const (
	denied       = "permission denied"       // EACCES
	notPermitted = "operation not permitted" // EPERM
)

// Sets of capabilities as /proc/PID/status has them.
const (
	noCapability = "0000000000000000"
	onlyNetAdmin = "0000000000001000"
)

// statuses returns the privileges that the kernel reports, each with the number of threads that have
// them.
func statuses(t *testing.T, pid int) map[string]int {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]int)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found[privileges(string(b))]++
	}
	return found
}

// privileges returns the lines of a status about privileges.
func privileges(status string) string {
	var lines []string
	for line := range strings.Lines(status) {
		if strings.HasPrefix(line, "Cap") || strings.HasPrefix(line, "NoNewPrivs") {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(lines, "; ")
}

// wantThreads fails the test unless the threads of the child have all the
// privileges that are given. own is for the permitted and the effective set.
func wantThreads(t *testing.T, c *child, own, bounding string) {
	t.Helper()
	found := statuses(t, c.Pid())
	want := fmt.Sprintf("CapInh: %s; CapPrm: %s; CapEff: %s; CapBnd: %s; CapAmb: %s; NoNewPrivs: 1",
		noCapability, own, own, bounding, noCapability)
	if len(found) != 1 || found[want] < 9 { // the first one, those before and those after
		t.Errorf("threads by their privileges: %v, want 9 or more with %s", found, want)
	}
}

// bounding is the bounding set of this process.
func bounding(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "CapBnd:")
	return strings.Fields(rest)[0]
}

// nobody is a plain user.
func nobody(t *testing.T) *syscall.Credential {
	t.Helper()
	ids, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		t.Fatal(err)
	}
	if fields := strings.Fields(string(ids)); len(fields) == 3 && fields[2] == "1" {
		t.Skip("there is only one user, who started the tests and is a plain one")
	}
	return &syscall.Credential{Uid: 65534, Gid: 65534}
}

// needLandlock skips the test if the kernel has none.
func needLandlock(t *testing.T) {
	t.Helper()
	_, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		t.Skip("the kernel has no Landlock: ", errno)
	}
}

// server drops what a server does not need.
var server = order{Keep: []sandbox.Capability{sandbox.NetAdmin}}

func TestServer(t *testing.T) {
	c := start(t, server, nil)
	wantThreads(t, c, onlyNetAdmin, noCapability)
	wantServes(t, c)
}

func TestServerAsPlainUser(t *testing.T) {
	c := start(t, server, nobody(t), sandbox.NetAdmin)
	wantThreads(t, c, onlyNetAdmin, bounding(t))
	wantServes(t, c)
}

// TestRaise has a server begin with capabilities that are not effective, one of which it has.
func TestRaise(t *testing.T) {
	o := server
	o.Keep = []sandbox.Capability{sandbox.NetAdmin, sandbox.NetBindService}
	o.Raises = true
	c := start(t, o, nobody(t), sandbox.NetAdmin)
	wantThreads(t, c, onlyNetAdmin, bounding(t))
	wantServes(t, c)
}

// wantServes fails the test unless the child can do what a server does, and
// nothing else.
func wantServes(t *testing.T, c *child) {
	t.Helper()
	if !strings.Contains(c.dropped, "[capabilities=cap_net_admin ") || !strings.HasSuffix(c.dropped, " <nil>") {
		t.Errorf("dropped: %s", c.dropped)
	}
	c.want("transparent", "ok")
	c.want("mark", "ok")
	c.want("rule", "ok")
	c.want("chroot", notPermitted)
}

func TestClient(t *testing.T) {
	c := start(t, order{}, nil)
	wantThreads(t, c, noCapability, noCapability)
	wantNoServer(t, c)
}

// TestClientAsPlainUser has nothing to drop, and lacks what it is to keep.
func TestClientAsPlainUser(t *testing.T) {
	for name, o := range map[string]order{"keeps nothing": {}, "keeps what it lacks": server} {
		t.Run(name, func(t *testing.T) {
			c := start(t, o, nobody(t))
			wantThreads(t, c, noCapability, bounding(t))
			wantNoServer(t, c)
		})
	}
}

func wantNoServer(t *testing.T, c *child) {
	t.Helper()
	if !strings.Contains(c.dropped, "[capabilities= ") || !strings.HasSuffix(c.dropped, " <nil>") {
		t.Errorf("dropped: %s", c.dropped)
	}
	c.want("transparent", notPermitted)
	c.want("mark", notPermitted)
	c.want("rule", notPermitted)
	c.want("chroot", notPermitted)
}

func TestWithoutLandlock(t *testing.T) {
	o := server
	o.NoLandlock = true
	c := start(t, o, nil)
	wantThreads(t, c, onlyNetAdmin, noCapability)
	wantServes(t, c)
	if !strings.Contains(c.dropped, " no_landlock=the kernel has no Landlock: function not implemented]") {
		t.Errorf("dropped: %s", c.dropped)
	}
	c.want("list /etc", "ok")
}

// TestPrograms has a child start programs that would be root's with all its
// capabilities, if they are not kept from it.
func TestPrograms(t *testing.T) {
	nobody(t) // skips
	grep, err := os.ReadFile("/bin/grep")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	setUserID := filepath.Join(dir, "grep")
	if err := os.WriteFile(setUserID, grep, 0o600); err != nil {
		t.Fatal(err)
	}
	// The plain user passes by here.
	for _, path := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(setUserID, 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}

	for name, tt := range map[string]struct {
		as   *syscall.Credential
		keep []sandbox.Capability
		path string
	}{
		"root":         {nil, server.Keep, "/bin/grep"},
		"a plain user": {nobody(t), server.Keep, setUserID},
	} {
		t.Run(name, func(t *testing.T) {
			const gained = "CapEff:\t" + noCapability
			run := func(o order) string {
				c := start(t, o, tt.as, sandbox.NetAdmin)
				c.want("run "+tt.path+" CapEff /proc/self/status", "ok")
				return c.Output()
			}
			if out := run(order{DropsNone: true}); strings.Contains(out, gained) {
				t.Skip("it gains nothing here in any case, is the file system mounted with nosuid?")
			}
			out := run(order{Keep: tt.keep, AllFiles: true})
			if n := strings.Count(out, "CapEff:"); n != 8 || strings.Count(out, gained) != n {
				t.Errorf("programs have capabilities:\n%s", out)
			}
		})
	}
}

func TestLogValue(t *testing.T) {
	for _, tt := range []struct {
		dropped sandbox.Dropped
		want    string
	}{
		{sandbox.Dropped{Landlock: 7}, "[capabilities= landlock=7]"},
		{
			sandbox.Dropped{
				Kept:       []sandbox.Capability{sandbox.NetAdmin, sandbox.NetBindService},
				NoLandlock: errors.New("why"),
			},
			"[capabilities=cap_net_admin,cap_net_bind_service no_landlock=why]",
		},
	} {
		if diff := cmp.Diff(tt.want, slog.AnyValue(tt.dropped).Resolve().String()); diff != "" {
			t.Error(diff)
		}
	}
}
