package e2e_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/nstest"
)

// TestNameMoves has a service with a name that comes to mean another address, which needs another return route.
func TestNameMoves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hosts := filepath.Join(t.TempDir(), "hosts")
	name := func(addr string) { must(t, os.WriteFile(hosts, []byte(addr+" service.test\n"), 0o644)) }
	name("127.0.0.1")
	for _, addr := range []string{"127.0.0.1", "192.0.2.2"} {
		tell(t, listen(t, w.m2, addr+":80"), addr)
	}

	path, err := program()
	must(t, err)
	cmd := exec.Command("unshare", "--mount", "sh", "-c", `mount --bind "$1" /etc/hosts && shift && exec "$@"`, "sh",
		hosts, path, "server", "-l", linkPort, "-p", "service.test:80")
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	server := nstest.StartCmd(t, w.m2, cmd)
	server.WaitOutput("server is ready")
	if strings.Contains(server.Output(), "tracked") {
		t.Errorf("more is set up than is needed: %s", server.Output())
	}
	w.client(t, "-p 80")

	ask := func() (answer, want string) {
		c := dial(t, w.alice.Host, w.alice.at(80))
		b, err := io.ReadAll(c)
		must(t, err)
		return string(b), fmt.Sprint(" saw ", c.LocalAddr())
	}
	if got, want := ask(); got != "127.0.0.1"+want {
		t.Errorf("got %q, want 127.0.0.1%s", got, want)
	}
	name("192.0.2.2")
	// Package net looks at the file again after five seconds.
	for range 100 {
		got, want := ask()
		if got == "192.0.2.2"+want {
			server.Signal(syscall.SIGTERM)
			if code := server.Wait(); code != 0 {
				t.Errorf("exit status %d", code)
			}
			if !strings.Contains(server.Output(), "tracked IPv4") {
				t.Error("no other return route was set up")
			}
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Error("the service was never found at its new address")
}

// tell has a service tell each peer its own name, and what it sees of the peer.
func tell(t *testing.T, l *net.TCPListener, name string) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s saw %s", name, c.RemoteAddr())
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
}
