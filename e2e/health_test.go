package e2e_test

import (
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"portredirector/internal/testnet"
	"portredirector/internal/testnet/nstest"
)

// TestHealth asks a client and a server, and what is wrong has a line.
func TestHealth(t *testing.T) {
	t.Parallel()
	c := newChain(t, loopback80, "--drain-timeout 1m")
	waitHealth(t, c.m1, "")
	waitHealth(t, c.m2, "")
	waitHealth(t, c.isp2, "no client or server runs here")

	// A server that drains is not well, and its client has none.
	live := c.connect(t)
	c.server.Signal(syscall.SIGTERM)
	waitHealth(t, c.m2, "it drains")
	waitHealth(t, c.m1, "server "+linkTo+": ")
	live.talk(t)
	nstest.Must(t, live.peer.Close())
	nstest.Must(t, live.service.Close())
	c.server.wantEnd(t)
	waitHealth(t, c.m2, "no client or server runs here")

	// With another one both are well.
	c.world.server(t, "-p 80")
	waitHealth(t, c.m2, "")
	waitHealth(t, c.m1, "")
}

// TestHealthOfReturnRoutes takes from the kernel what a return route needs: the server is not well until it is back.
func TestHealthOfReturnRoutes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.server(t, "-p 80")
	waitHealth(t, w.m2, "")
	nstest.Must(t, w.m2.SetSysctl("net.ipv6.conf.lo.disable_ipv6", "1"))
	waitHealth(t, w.m2, "return route is incomplete")
	nstest.Must(t, w.m2.SetSysctl("net.ipv6.conf.lo.disable_ipv6", "0"))
	waitHealth(t, w.m2, "")
}

// TestHealthOfServerThatDials checks that both ends are healthy as long as they are connected.
func TestHealthOfServerThatDials(t *testing.T) {
	t.Parallel()
	c, _ := newNATChain(t, newKeys(t), natOptions)
	waitHealth(t, c.m1, "")
	waitHealth(t, c.m2, "")
	c.client.Signal(syscall.SIGTERM)
	c.client.wantEnd(t)
	waitHealth(t, c.m2, "no client is reached: "+clientAt)
}

// waitHealth waits until the programs on a host are well, or say what is wrong.
func waitHealth(t *testing.T, h *testnet.Host, wrong string) {
	t.Helper()
	path, err := program()
	nstest.Must(t, err)
	nstest.WaitFor(t, "signs of "+wrong, func() bool {
		cmd := exec.Command(path, "health")
		cmd.Env = append(cmd.Environ(), "GORACE=atexit_sleep_ms=0")
		var said strings.Builder
		cmd.Stderr = &said
		nstest.Must(t, h.Start(cmd))
		err := cmd.Wait()
		exit, failed := errors.AsType[*exec.ExitError](err)
		if failed && exit.ExitCode() != 1 || said.Len() > 0 != failed {
			t.Errorf("health says %q (%v)", said.String(), err)
		}
		return failed == (wrong != "") && strings.Contains(said.String(), wrong)
	})
}
