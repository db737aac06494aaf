package e2e_test

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// visitedService builds the service for containers, once for all tests, and returns its path.
var visitedService = sync.OnceValues(func() (path string, err error) {
	path = filepath.Join(binDir, "visited")
	return path, goBuild(path, "./testdata/visited")
})

// newEngine starts an engine with the image "visited", whose containers take the address to listen at, and with networks. Each
// network has a container from the beginning and no IPv6, so that the state of the host does not depend on the test's containers.
func newEngine(t *testing.T, h *testnet.Host, form nstest.Iptables, networks ...string) *nstest.Engine {
	t.Helper()
	path, err := visitedService()
	nstest.Must(t, err)
	nstest.Must(t, h.SetSysctl("net.ipv6.conf.default.disable_ipv6", "1"))
	e := nstest.StartEngine(t, h, form)
	dir := t.TempDir()
	nstest.Must(t, os.Link(path, filepath.Join(dir, "visited")))
	nstest.Must(t, os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY visited /\nENTRYPOINT [\"/visited\"]\n"), 0o644))
	e.Build(t, nstest.Classic, "visited", dir)
	anchor := runVisited(t, e)
	for _, network := range networks {
		e.Docker(t, "network", "create", network)
		e.Docker(t, "network", "connect", network, anchor)
	}
	nstest.WaitFor(t, "carriers", func() bool { return !strings.Contains(nstest.Run(t, h, "ip", "route"), "linkdown") })
	return e
}

// runVisited runs the service in a container, with options of docker run.
func runVisited(t *testing.T, e *nstest.Engine, options ...string) (id string) {
	t.Helper()
	id = e.Run(t, append(options, "visited", ":80")...)
	e.WaitLog(t, id, "listening")
	return id
}

// addressOf returns the address of a container that is on one network.
func addressOf(t *testing.T, e *nstest.Engine, id string) string {
	t.Helper()
	return e.Docker(t, "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", id)
}

// visit is a connection to the service of a container.
type visit struct {
	*net.TCPConn

	seen netip.AddrPort // whom the service sees
	text *bufio.Reader  // what it says
}

// newVisit connects to the service of a container.
func newVisit(t *testing.T, h *testnet.Host, to netip.AddrPort) *visit {
	t.Helper()
	c := dial(t, h, to)
	v := &visit{TCPConn: c, text: bufio.NewReader(c)}
	line, err := v.text.ReadString('\n')
	nstest.Must(t, err)
	v.seen = addrPort(t, line[:len(line)-1])
	return v
}

// talk fails the test unless the service answers.
func (v *visit) talk(t *testing.T) {
	t.Helper()
	const text = "how are you?"
	_, err := io.WriteString(v, text)
	nstest.Must(t, err)
	wantNext(t, v.text, text)
}

// wantSeen fails the test unless the service sees a peer of port 80 as it is, and talks to it.
func wantSeen(t *testing.T, p peer) *visit {
	t.Helper()
	v := newVisit(t, p.Host, p.at(80))
	if is := localAddr(v); v.seen != is {
		t.Errorf("the service saw %v, but the peer is %v", v.seen, is)
	}
	v.talk(t)
	return v
}
