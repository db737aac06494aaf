package e2e_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"portredirector/internal/testnet/nstest"
)

// TestFail2ban has bob fail to log in three times. Debian's fail2ban bans him at the service, by an action as it comes. It
// knows his address from sshd's log. The ban is of port 22. The other peers go on, and so does what bob has of port 80.
func TestFail2ban(t *testing.T) {
	for _, action := range []string{
		"banaction = nftables-multiport",
		"banaction = iptables-multiport\nchain = OUTPUT",
	} {
		name, _, _ := strings.Cut(strings.TrimPrefix(action, "banaction = "), "\n")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := newJail(t, newWorld(t, func(w *world) {
				// iptables leaves its tables behind. So they are there at the beginning, too.
				nstest.Run(t, w.m2, "iptables", "-w", "-I", "OUTPUT", "-j", "RETURN")
			}), action)
			service := listen(t, j.m2, "127.0.0.1:80")
			j.server(t, "-p 22 -p 80")
			j.client(t, "-p 22 -p 80")
			finish := j.stay(t, j.alice)
			web := []session{newSession(t, j.alice, 80, service), newSession(t, j.bob, 80, service)}

			j.attack(t, j.bob)
			finish()
			j.stay(t, j.alice)()
			for _, s := range web {
				s.talk(t)
			}
			newSession(t, j.bob, 80, service).talk(t)
		})
	}
}

// jail is an sshd on M2's loopback whose log fail2ban watches.
type jail struct {
	sshWorld

	fail2ban *nstest.Process
	socket   string // of fail2ban
}

// newJail starts sshd, and fail2ban with the jail sshd as Debian has it, and lines for the jail that name its action. An address is
// banned at its third failure. Files are put into fail2ban's directory action.d.
func newJail(t *testing.T, of *world, action string, files ...string) jail {
	t.Helper()
	if _, err := os.Stat("/etc/fail2ban"); err != nil && os.Getenv("CI") != "true" {
		t.Skip("FAIL2BAN IS NOT INSTALLED")
	}
	w, conf := prepareSSHD(t, of, "PasswordAuthentication yes", "MaxStartups 2000")
	dir := serviceDir(t, "root")
	log := syslogSSHD(t, w, dir, conf)
	for _, name := range []string{"action.d", "filter.d"} {
		nstest.Must(t, os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join("/etc/fail2ban", name))))
	}
	for _, name := range []string{"fail2ban.conf", "jail.conf", "paths-common.conf", "paths-debian.conf"} {
		copyFile(t, filepath.Join("/etc/fail2ban", name), filepath.Join(dir, name))
	}
	for _, file := range files {
		copyFile(t, file, filepath.Join(dir, "action.d", filepath.Base(file)))
	}
	writeConf(t, dir, "fail2ban.local", "[DEFAULT]\ndbfile = None\nallowipv6 = auto\nlogtarget = STDOUT\n")
	writeConf(t, dir, "jail.local", fmt.Sprintf("[sshd]\nenabled = true\nlogpath = %s\nmaxretry = 3\nusedns = no\nignoreself = false\n%s\n", log, action))
	p := nstest.Start(t, w.m2, "fail2ban-server", "-f", "-c", dir, "-s", filepath.Join(dir, "socket"), "-p", filepath.Join(dir, "pid"))
	t.Cleanup(func() {
		p.Signal(syscall.SIGTERM) // takes its rules away
		p.Wait()
	})
	p.WaitOutput("Jail 'sshd' started")
	return jail{w, p, filepath.Join(dir, "socket")}
}

// attack has a peer give three wrong passwords, and waits until it is refused.
func (j jail) attack(t *testing.T, p peer) {
	t.Helper()
	for range 3 {
		options := []string{"-o", "BatchMode=no", "-o", "PreferredAuthentications=password", "-o", "NumberOfPasswordPrompts=1"}
		cmd := exec.Command("ssh", append(options, j.options("root@"+p.m1.String())...)...)
		cmd.Env = append(os.Environ(), "SSH_ASKPASS=/bin/echo", "SSH_ASKPASS_REQUIRE=force")
		if ssh := nstest.StartCmd(t, p.Host, cmd); ssh.Wait() == 0 {
			t.Fatal("a wrong password is right")
		}
	}
	j.fail2ban.WaitOutput(fmt.Sprintf("[sshd] Ban %s", p.addr))
	nstest.WaitFor(t, "end of what fail2ban does for a ban", func() bool {
		j.refusals++
		c, err := dialFrom(p, netip.AddrPortFrom(p.addr, 20000+j.refusals), p.at(22))
		if err == nil {
			_, err = forTest(t, c).Read(make([]byte, 1)) // of sshd's greeting
		}
		return isReset(err)
	})
}

// copyFile copies a file.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	nstest.Must(t, err, os.WriteFile(to, b, 0o644))
}

// devLog gives a program a /dev of its own, with the socket for logs in it.
const devLog = `for f in null zero urandom; do touch "$0/$f" && mount --bind "/dev/$f" "$0/$f" || exit; done
	mount --rbind "$0" /dev && exec "$@"`

// syslogSSHD starts an sshd that logs to syslog, as Debian's does, and returns the file in which its lines are, in the words of
// rsyslog: with the time, the host, and sshd's process.
func syslogSSHD(t *testing.T, w sshWorld, dir, conf string) (log string) {
	t.Helper()
	dev := filepath.Join(dir, "dev")
	nstest.Must(t, os.Mkdir(dev, 0o755))
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dev, "log"), Net: "unixgram"})
	nstest.Must(t, err)
	log = filepath.Join(dir, "auth.log")
	file, err := os.Create(log)
	nstest.Must(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		message := make([]byte, 1<<12)
		for {
			n, err := socket.Read(message)
			if err != nil {
				return
			}
			const stamp = len("Jan  2 15:04:05 ")
			_, line, _ := strings.Cut(string(message[:n]), ">")
			_, _ = io.WriteString(file, line[:stamp]+"m2 "+strings.TrimSpace(line[stamp:])+"\n")
		}
	}()
	t.Cleanup(func() {
		_ = socket.Close()
		<-ended
		_ = file.Close()
		if b, err := os.ReadFile(log); t.Failed() && err == nil {
			t.Logf("sshd logged\n%s", b)
		}
	})
	nstest.Start(t, w.m2, "unshare", "--mount", "sh", "-c", devLog, dev, "/usr/sbin/sshd", "-D", "-f", conf)
	waitListening(t, w.m2, "127.0.0.1:22 [::1]:22")
	return log
}
