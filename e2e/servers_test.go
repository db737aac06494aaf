package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// TestRecordsNameServers gives the servers of a client as SRV records, which change. One of the hosts has an address that nothing
// uses.
func TestRecordsNameServers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := listen(t, w.m2, "127.0.0.1:80")
	w.server(t, "-p 80")
	start(t, w.m2, "server", "-l 12346 -p 80")

	const name = "_portredirector._tcp.test"
	names := resolver(t, w.m1, "--srv-host="+name+",a.test,12345", "--host-record=a.test,10.0.0.2,fd00:10::99")
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	nstest.Must(t, os.WriteFile(conf, []byte("nameserver 127.0.0.1\n"), 0o644))
	client := startWith(t, w.m1, "client -c srv:"+name+" -p 80", conf, "/etc/resolv.conf")
	client.WaitOutput("client is ready")
	newSession(t, w.alice, 80, service).talk(t)
	client.WaitOutput("server=a.test:12345")

	names.Signal(syscall.SIGTERM)
	names.Wait()
	resolver(t, w.m1, "--srv-host="+name+",b.test,12346", "--host-record=b.test,10.0.0.2")
	for range 60 {
		newSession(t, w.alice, 80, service).talk(t)
		if strings.Contains(client.Output(), "server=b.test:12346") {
			return
		}
		time.Sleep(time.Second)
	}
	t.Error("no peer was ever taken to the new server")
}

// resolver runs a name server on the loopback of a host.
func resolver(t *testing.T, h *testnet.Host, records ...string) *nstest.Process {
	t.Helper()
	args := append([]string{
		"--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--pid-file", "--user=root", "--group=",
		"--listen-address=127.0.0.1", "--bind-interfaces", "--local=/test/", "--log-facility=-",
	}, records...)
	p := nstest.Start(t, h, "dnsmasq", args...)
	nstest.WaitListening(t, h, addrPort(t, "127.0.0.1:53"))
	return p
}

// startWith starts the program with a file of its own in the place of one of the machine's.
func startWith(t *testing.T, h *testnet.Host, command, file, place string) *nstest.Process {
	t.Helper()
	path, err := program()
	nstest.Must(t, err)
	args := []string{"--mount", "sh", "-c", `mount --bind "$1" "$2" && shift 2 && exec "$@"`, "sh", file, place, path}
	cmd := exec.Command("unshare", append(args, strings.Fields(command+" -v")...)...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	p := nstest.StartCmd(t, h, cmd)
	t.Cleanup(func() {
		p.Signal(syscall.SIGTERM)
		if code := p.Wait(); code != 0 {
			t.Errorf("exit status %d", code)
		}
	})
	return p
}

// TestBalance spreads peers over two servers.
func TestBalance(t *testing.T) {
	for how, want := range map[string][2]int{"failover": {8, 0}, "round-robin": {4, 4}, "least-peers": {4, 4}} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			service := listen(t, w.m2, "127.0.0.1:80")
			first := w.server(t, "-p 80")
			second := start(t, w.m2, "server", "-l 12346 -p 80")
			w.client(t, "-c "+secondLinkTo+" -p 80 --balance "+how)
			for range 8 {
				newSession(t, w.alice, 80, service).talk(t)
			}
			nstest.WaitFor(t, fmt.Sprint(want, " peers at the servers"), func() bool {
				var got [2]int
				for i, d := range []*daemon{first, second} {
					got[i] = strings.Count(d.Output(), `msg="peer connects"`)
				}
				return got == want
			})
		})
	}
}

// TestIdleRestart restarts the only server while there are no peers. The next peer must be served, although all waiting links are
// gone.
func TestIdleRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := listen(t, w.m2, "127.0.0.1:80")
	server := w.server(t, "-p 80")
	w.client(t, "-p 80")
	links := func() int {
		return strings.Count(nstest.Run(t, w.m1, "ss", "-Htn", "state", "established", "dport = :"+linkPort), linkTo)
	}
	nstest.WaitFor(t, "links ahead of the first peer", func() bool { return links() == 8 })
	server.Signal(syscall.SIGTERM)
	server.wantEnd(t)
	w.server(t, "-p 80")
	newSession(t, w.alice, 80, service).talk(t)
	nstest.WaitFor(t, "links ahead of the next peer", func() bool { return links() > 8 })
}

// TestKilledClient kills a client: the server gives everything back.
func TestKilledClient(t *testing.T) {
	t.Parallel()
	c := newChain(t, loopback80)
	before := descriptors(t, c.server)
	client := start(t, c.m1, "client", "-c "+linkTo+" -p 81")
	nstest.WaitFor(t, "links", func() bool { return nstest.Descriptors(t, c.server.Pid()) > before })
	client.ended = true
	client.Signal(syscall.SIGKILL)
	client.Wait()
	waitDescriptors(t, c.server, before)
}

// TestOthersHaveNoPool checks that a receiver of another kind gets one connection per peer, each beginning with a header.
func TestOthersHaveNoPool(t *testing.T) {
	for form, begin := range map[string]string{"v2": "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c", "v1": "PROXY TCP4 203.0.113.10 ", "py": "203.0.113.10:"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			receiver := listen(t, w.m2, linkTo)
			w.client(t, "-p 80 --header "+form)
			for range 5 {
				s := session{dial(t, w.alice.Host, w.alice.at(80)), accept(t, receiver)}
				wantNext(t, s.service, begin)
				_, err := fmt.Fprint(s.service, "\x06 is a byte as any other")
				nstest.Must(t, err)
				wantNext(t, s.peer, "\x06 is a byte as any other")
			}
			nstest.Must(t, receiver.SetDeadline(time.Now().Add(1500*time.Millisecond))) // longer than a pool takes to be filled
			if c, err := receiver.AcceptTCP(); err == nil {
				t.Errorf("one more link came, from %v", c.RemoteAddr())
				nstest.Must(t, c.Close())
			}
		})
	}
}
