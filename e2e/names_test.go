package e2e_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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

// TestNameServerAway stops the name server of M2: peers of a service with a name are served as before. When it is back, the name
// has a second address, which drops all packets. At most one peer may wait for it.
func TestNameServerAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		nstest.Run(t, w.m2, "nft", "add table ip silent; add chain ip silent out { type filter hook output priority 0; }; "+
			"add rule ip silent out ip daddr 192.0.2.99 drop")
	})
	each(t, listen(t, w.guest, "172.30.0.2:80"), func(c *net.TCPConn) { fmt.Fprintf(c, "saw %s", c.RemoteAddr()) })
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	nstest.Must(t, os.WriteFile(conf, []byte("nameserver 127.0.0.1\n"), 0o644))
	names := resolver(t, w.m2, "--host-record=web.test,172.30.0.2")
	server := startWith(t, w.m2, "server -l "+linkPort+" -p web.test:80", conf, "/etc/resolv.conf")
	server.WaitOutput("server is ready")
	w.client(t, "-p 80")
	visit := func() (slow bool) {
		t.Helper()
		begin := time.Now()
		c := dial(t, w.alice.Host, w.alice.at(80))
		if b, err := io.ReadAll(c); err != nil || string(b) != fmt.Sprint("saw ", c.LocalAddr()) {
			t.Errorf("got %q, %v", b, err)
		}
		return time.Since(begin) > time.Second
	}
	visit()
	names.Signal(syscall.SIGTERM)
	names.Wait()
	server.WaitOutput("its known addresses stay in use")
	visit()

	resolver(t, w.m2, "--host-record=web.test,172.30.0.2", "--host-record=web.test,192.0.2.99")
	server.WaitOutput("can be resolved again")
	slow := 0
	for range 20 {
		if visit() {
			slow++
		}
	}
	if slow > 1 {
		t.Errorf("%d peers had to wait for the address that does not answer", slow)
	}
}
