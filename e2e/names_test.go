package e2e_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"portredirector/internal/testnet/nstest"
)

// TestNameMoves has a service with a name that comes to mean another address, which needs another return route.
func TestNameMoves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hosts := filepath.Join(t.TempDir(), "hosts")
	name := func(addr string) { nstest.Must(t, os.WriteFile(hosts, []byte(addr+" service.test\n"), 0o644)) }
	name("127.0.0.1")
	for _, addr := range []string{"127.0.0.1", "192.0.2.2"} {
		each(t, listen(t, w.m2, addr+":80"), func(c *net.TCPConn) { fmt.Fprintf(c, "%s saw %s", addr, c.RemoteAddr()) })
	}

	server := startWith(t, w.m2, "server -l "+linkPort+" -p service.test:80", hosts, "/etc/hosts")
	server.WaitOutput("server is ready")
	if strings.Contains(server.Output(), "tracked") {
		t.Errorf("more is set up than is needed: %s", server.Output())
	}
	w.client(t, "-p 80")

	ask := func() (answer, want string) {
		c := dial(t, w.alice.Host, w.alice.at(80))
		b, err := io.ReadAll(c)
		nstest.Must(t, err)
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
			server.WaitOutput("tracked IPv4") // the other return route
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Error("the service was never found at its new address")
}
