package e2e_test

import (
	"bytes"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"portredirector/internal/testnet/nstest"
)

// TestServices visits services as Debian has them, on M2's loopback. Each has to know its peer by its own means: a log, an
// answer, or a rule for one address. alice is the peer that rules permit, bob another.
func TestServices(t *testing.T) {
	t.Parallel()
	requireAccounts(t)
	w := newWorld(t)
	const ports = " -p 21-22 -p 25 -p 80 -p 143 -p 443 -p 587 -p 5432 -p 6379 -p 8443 -p 30000-30003"
	w.server(t, ports)
	w.client(t, ports)
	for name, visit := range map[string]func(t *testing.T, w *world){
		"nginx":                     visitWeb,
		"TLS with a client's key":   visitMutualTLS,
		"OpenSSH, Match Address":    visitSSH,
		"Postfix":                   visitPostfix,
		"Dovecot":                   visitDovecot,
		"PostgreSQL":                visitPostgres,
		"Redis":                     visitRedis,
		"vsftpd, passive, by ports": visitFTP,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			visit(t, w)
		})
	}
}

// visitSSH logs in. A Match line for alice's address gives her another command than bob.
func visitSSH(t *testing.T, w *world) {
	s := newSSHD(t, w, "Match Address 203.0.113.10", "ForceCommand echo you are alice")
	for p, want := range map[peer]string{w.alice: "you are alice\n", w.bob: "you are another\n"} {
		got := nstest.Run(t, p.Host, "ssh", s.options("root@"+p.m1.String(), "echo you are another")...)
		if got != want {
			t.Errorf("sshd told %s %q, want %q", p.Name, got, want)
		}
		s.sshd.WaitOutput(fmt.Sprintf("Accepted publickey for root from %s port ", p.addr))
	}
}

// serviceDir returns a directory that each user can search, unlike that of the test, with a name that is short enough for
// sockets. It belongs to the user named.
func serviceDir(t *testing.T, owner string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "service-") //nolint:usetesting // a socket has no room for the name of a test
	nstest.Must(t, err)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	uid, gid := account(t, owner)
	nstest.Must(t, os.Chmod(dir, 0o755), os.Chown(dir, uid, gid))
	return dir
}

// account returns the numbers of a user that a package of Debian has made.
func account(t *testing.T, name string) (uid, gid int) {
	t.Helper()
	u, err := user.Lookup(name)
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatal(err)
	default:
		t.Skipf("%v: its package is not installed", err)
	}
	uid, err = strconv.Atoi(u.Uid)
	nstest.Must(t, err)
	gid, err = strconv.Atoi(u.Gid)
	nstest.Must(t, err)
	return uid, gid
}

// writeConf writes a file of a service and returns its path. DIR in it becomes dir.
func writeConf(t *testing.T, dir, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(dir, name)
	text = strings.ReplaceAll(text, "DIR", dir)
	nstest.Must(t, os.WriteFile(path, []byte(text), 0o644))
	return path
}

// waitFile waits until a file that matches the pattern has text in it, and returns the file's content.
func waitFile(t *testing.T, pattern, text string) (content string) {
	t.Helper()
	nstest.WaitFor(t, fmt.Sprintf("%q in %s", text, pattern), func() bool {
		files, err := filepath.Glob(pattern)
		nstest.Must(t, err)
		for _, f := range files {
			if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte(text)) {
				content = string(b)
				return true
			}
		}
		return false
	})
	return content
}
