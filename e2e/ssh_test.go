package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"portredirector/internal/testnet/nstest"
)

// sshWorld is a world with an sshd on M2's loopback, to which port 22 of M1 leads.
type sshWorld struct {
	*world

	sshd *nstest.Process
	dir  string
}

// TestSSH logs in by ssh: the log of sshd and the environment of the session have the peer's own address and port.
func TestSSH(t *testing.T) {
	t.Parallel()
	w := newSSHWorld(t)
	for _, p := range []peer{w.alice, w.carol} {
		cmd := exec.Command("ssh", w.options("-p", "22", "root@"+p.m1.String(), `echo "I am $SSH_CONNECTION"; cat`)...)
		stdin, err := cmd.StdinPipe()
		nstest.Must(t, err)
		ssh := nstest.StartCmd(t, p.Host, cmd)
		told := ssh.WaitOutput("I am ")
		is := connectionTo(t, p, 22)
		if want := fmt.Sprintf("I am %s %d %s 22", is.Addr(), is.Port(), p.loopback(22).Addr()); told != want {
			t.Errorf("the session is told %q, want %q", told, want)
		}
		want := fmt.Sprintf("Connection from %s port %d on %s port 22", is.Addr(), is.Port(), p.loopback(22).Addr())
		if got := w.sshd.WaitOutput("Connection from " + p.addr.String()); !strings.HasPrefix(got, want) {
			t.Errorf("sshd logged %q, want %q", got, want)
		}
		nstest.Must(t, stdin.Close()) // which ends cat
		if code := ssh.Wait(); code != 0 {
			t.Errorf("exit status of ssh %d, want 0", code)
		}
	}
}

// TestSCP copies a big file there and back again.
func TestSCP(t *testing.T) {
	t.Parallel()
	w := newSSHWorld(t)
	here, there, back := filepath.Join(w.dir, "here"), filepath.Join(w.dir, "there"), filepath.Join(w.dir, "back")
	want := randomFile(t, here, 100<<20)
	remote := fmt.Sprintf("root@%s:%s", w.alice.m1, there)
	for _, way := range []struct{ from, to, file string }{{here, remote, there}, {remote, back, back}} {
		nstest.Run(t, w.alice.Host, "scp", w.options("-P", "22", way.from, way.to)...)
		if sumFile(t, way.file) != want {
			t.Errorf("scp %s %s: the copy is another", way.from, way.to)
		}
	}
}

func newSSHWorld(t *testing.T) sshWorld {
	t.Helper()
	w := newSSHD(t, newWorld(t))
	w.server(t, "-p 22")
	w.client(t, "-p 22")
	return w
}

// newSSHD starts sshd on M2, with more lines for its configuration.
func newSSHD(t *testing.T, of *world, more ...string) sshWorld {
	t.Helper()
	w, conf := prepareSSHD(t, of, more...)
	w.sshd = nstest.Start(t, w.m2, "sshd", "-D", "-e", "-f", conf)
	waitListening(t, w.m2, "127.0.0.1:22 [::1]:22")
	return w
}

// prepareSSHD makes the files of an sshd, and returns the path of its configuration.
func prepareSSHD(t *testing.T, of *world, more ...string) (w sshWorld, conf string) {
	t.Helper()
	w = sshWorld{world: of, dir: t.TempDir()}
	requireAccounts(t)
	nstest.Must(t, makeRunSSHD())
	for _, key := range []string{"host_key", "user_key"} {
		nstest.Run(t, w.m2, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(w.dir, key))
	}
	conf = filepath.Join(w.dir, "sshd_config")
	nstest.Must(t, os.WriteFile(conf, fmt.Appendf(nil, `
ListenAddress 127.0.0.1:22
ListenAddress [::1]:22
HostKey %[1]s/host_key
AuthorizedKeysFile %[1]s/user_key.pub
PermitRootLogin yes
StrictModes no
UsePAM no
PidFile none
LogLevel VERBOSE
Subsystem sftp internal-sftp
# So bash does not take itself for the first shell, and leaves the machine's .bashrc alone, which may take seconds.
SetEnv SHLVL=1
%[2]s
`, w.dir, strings.Join(more, "\n")), 0o600))
	return w, conf
}

// stay starts a session of a peer. The returned function wants it to be alive, and ends it.
func (w sshWorld) stay(t *testing.T, p peer) (finish func()) {
	t.Helper()
	cmd := exec.Command("ssh", w.options("-p", "22", "root@"+p.m1.String(), "echo I am here; cat")...)
	stdin, err := cmd.StdinPipe()
	nstest.Must(t, err)
	ssh := nstest.StartCmd(t, p.Host, cmd)
	ssh.WaitOutput("I am here")
	return func() {
		t.Helper()
		_, err := io.WriteString(stdin, "and there\n")
		nstest.Must(t, err)
		ssh.WaitOutput("and there")
		nstest.Must(t, stdin.Close()) // which ends cat
		if code := ssh.Wait(); code != 0 {
			t.Errorf("exit status of ssh %d, want 0", code)
		}
	}
}

// options returns arguments of ssh or scp, preceded by those that all peers share.
func (w sshWorld) options(args ...string) []string {
	same := []string{
		"-F", "none", "-i", filepath.Join(w.dir, "user_key"), "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
	}
	return append(same, args...)
}

// requireAccounts skips the test where a process cannot become another user, as sshd does, such as in the user namespace of a plain
// user. On a CI machine the test fails.
func requireAccounts(t *testing.T) {
	t.Helper()
	setgroups, err := os.ReadFile("/proc/self/setgroups")
	switch {
	case err == nil && strings.TrimSpace(string(setgroups)) != "deny":
	case os.Getenv("CI") == "true":
		t.Fatal("sshd cannot drop its privileges: run the tests as root")
	default:
		t.Skip("SSHD CANNOT DROP ITS PRIVILEGES: run the tests as root")
	}
}

// makeRunSSHD creates the directory that sshd needs. The machine's own /run stays as it is, since the tests have a mount namespace.
var makeRunSSHD = sync.OnceValue(func() error {
	const dir = "/run/sshd"
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	return os.Mkdir(dir, 0o755)
})
