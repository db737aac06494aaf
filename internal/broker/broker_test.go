package broker_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"portredirector/internal/broker"
	"portredirector/internal/testnet/nstest"
)

// write writes a file below a new directory, and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	nstest.Must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// link makes a symbolic link lead elsewhere.
func link(t *testing.T, to, at string) {
	t.Helper()
	nstest.Must(t, os.Symlink(to, at+".new"))
	nstest.Must(t, os.Rename(at+".new", at))
}

// TestLinkMoves wants a file to be readable wherever a link to it leads, as that of a renewed
// certificate, and nothing else.
func TestLinkMoves(t *testing.T) {
	file, other := filepath.Join(t.TempDir(), "cert.pem"), write(t, "other", "other")
	link(t, write(t, "cert1.pem", "first"), file)
	c := start(t, broker.Config{Files: []string{file}})
	c.want("open "+file, "permission denied")
	c.want("read "+file, "first <nil>")
	link(t, write(t, "cert2.pem", "second"), file)
	c.want("read "+file, "second <nil>")
	nstest.Must(t, os.Remove(file))
	c.want("read "+file, "open "+file+": no such file")
	nstest.Must(t, os.WriteFile(file, []byte("a plain file"), 0o600))
	c.want("read "+file, "a plain file <nil>")
	c.want("read "+other, "not configured")
	c.want("dial "+file, "not configured")
	c.want("resolve localhost", "not configured")
}

// TestNoRegularFile wants what is no file to be refused at once, also a pipe that nobody writes to.
func TestNoRegularFile(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	nstest.Must(t, syscall.Mkfifo(pipe, 0o600))
	c := start(t, broker.Config{Files: []string{dir, pipe, "/dev/zero"}})
	for _, path := range []string{dir, pipe, "/dev/zero"} {
		c.want("read "+path, "no regular file")
	}
}

// TestSocketMoves wants a Unix socket to be reachable wherever a link to it leads.
func TestSocketMoves(t *testing.T) {
	path := filepath.Join(t.TempDir(), "docker.sock")
	serve := func(text string) {
		at := filepath.Join(t.TempDir(), "socket")
		l, err := net.Listen("unix", at)
		nstest.Must(t, err)
		served := make(chan struct{})
		go func() {
			defer close(served)
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprint(conn, text)
				_ = conn.Close()
			}
		}()
		t.Cleanup(func() {
			_ = l.Close()
			<-served
		})
		link(t, at, path)
	}
	serve("first")
	c := start(t, broker.Config{Sockets: []string{path}})
	c.want("dial "+path, "first <nil>")
	serve("second")
	c.want("dial "+path, "second <nil>")
	nstest.Must(t, os.Remove(path))
	c.want("dial "+path, "no such file")
}

// TestResolverMoves wants names to be resolved by the files that /etc has, wherever its links lead.
func TestResolverMoves(t *testing.T) {
	dnsmasq, err := exec.LookPath("dnsmasq")
	if err != nil {
		t.Skip(err)
	}
	nstest.Must(t, exec.Command("ip", "link", "set", "lo", "up").Run())
	etc := t.TempDir()
	use := func(n int) {
		dir, server := t.TempDir(), fmt.Sprintf("127.0.53.%d", n)
		cmd := exec.Command(dnsmasq, "-k", "-h", "-R", "-C", "/dev/null", "--bind-interfaces", "--pid-file=", "-a", server,
			fmt.Sprintf("--address=/m2.test/192.0.2.%d", n), fmt.Sprintf("--srv-host=_p._tcp.test,m2.test,%d", n))
		nstest.Must(t, cmd.Start())
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		nstest.WaitFor(t, "a name server", func() bool {
			c, err := net.Dial("tcp", server+":53")
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		})
		for name, text := range map[string]string{
			"resolv.conf": "nameserver " + server, "nsswitch.conf": "hosts: files dns", "hosts": fmt.Sprintf("198.51.100.%d m1.test", n),
		} {
			nstest.Must(t, os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o644))
			link(t, filepath.Join(dir, name), filepath.Join(etc, name))
		}
	}
	use(1)
	c := start(t, broker.Config{Names: true}, "unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc && exec "$1"`, etc)
	c.want("open /etc/hosts", "permission denied")
	c.want("resolve m2.test", "[192.0.2.1] <nil>")
	c.want("resolve m1.test", "198.51.100.1] <nil>")
	c.want("srv _p._tcp.test", "m2.test.1 <nil>")
	c.want("resolve nowhere.invalid", "lookup nowhere.invalid")
	use(2)
	// Package net looks at the files again after five seconds.
	nstest.WaitFor(t, "the new name server", func() bool { return strings.Contains(c.do("resolve m2.test"), "[192.0.2.2] <nil>") })
	nstest.WaitFor(t, "the new hosts", func() bool { return strings.Contains(c.do("resolve m1.test"), "198.51.100.2] <nil>") })
	c.want("srv _p._tcp.test", "m2.test.2 <nil>")
}

// helper returns the process id of a daemon's helper.
func (c *child) helper() int {
	c.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", c.cmd.Process.Pid, c.cmd.Process.Pid))
	if err != nil || len(strings.Fields(string(text))) != 1 { // another thread may have started it
		out, perr := exec.Command("pgrep", "-P", strconv.Itoa(c.cmd.Process.Pid)).Output()
		nstest.Must(c.t, perr)
		text = out
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	nstest.Must(c.t, err)
	return pid
}

func runs(pid int) bool { return syscall.Kill(pid, 0) == nil }

// TestEnd wants the helper to outlive signals and to end with its daemon, also with one that is killed.
func TestEnd(t *testing.T) {
	for name, end := range map[string]func(c *child){
		"the daemon ends":      func(c *child) { nstest.Must(t, c.in.Close()) },
		"the daemon is killed": func(c *child) { nstest.Must(t, c.cmd.Process.Kill()) },
	} {
		t.Run(name, func(t *testing.T) {
			file := write(t, "file", "text")
			c := start(t, broker.Config{Files: []string{file}})
			pid := c.helper()
			for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGABRT} {
				nstest.Must(t, syscall.Kill(pid, s))
			}
			c.want("read "+file, "text <nil>")
			end(c)
			nstest.WaitFor(t, "the helper's end", func() bool { return !runs(pid) })
		})
	}
}

// TestHelperKilled wants a daemon to know that its helper has ended, and not to wait for it.
func TestHelperKilled(t *testing.T) {
	file := write(t, "file", "text")
	c := start(t, broker.Config{Files: []string{file}, Names: true})
	nstest.Must(t, syscall.Kill(c.helper(), syscall.SIGKILL))
	c.want("ended", "has ended: start this program anew")
	c.want("read "+file, "has ended")
	c.want("resolve name.test", "has ended")
}

// TestDirect wants a broker that was not started to do everything in this process.
func TestDirect(t *testing.T) {
	var b broker.Broker
	defer b.Close()
	if text, err := b.ReadFile(write(t, "file", "text")); string(text) != "text" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if addrs, err := b.LookupNetIP(t.Context(), "ip4", "127.0.0.1"); len(addrs) != 1 || err != nil {
		t.Errorf("%v, %v", addrs, err)
	}
	if err := b.Unhealthy(); err != nil {
		t.Error(err)
	}
}
