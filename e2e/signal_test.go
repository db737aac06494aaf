package e2e_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/testnet/nstest"
)

// TestTerminatingSignals sends each signal that would end a program. A server must shut down in order, leave nothing in the kernel,
// and print no stack dump.
func TestTerminatingSignals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := nstest.Snapshot(t, w.m2)
	for _, s := range []syscall.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGILL, syscall.SIGTRAP, syscall.SIGABRT, syscall.SIGBUS, syscall.SIGFPE,
		syscall.SIGSEGV, syscall.SIGTERM, syscall.SIGSTKFLT, syscall.SIGXCPU, syscall.SIGPWR, syscall.SIGSYS,
	} {
		server := w.server(t, "-p 80")
		server.Signal(s)
		server.wantEnd(t)
		if output := server.Output(); !strings.Contains(output, "server has ended") || strings.Contains(output, "goroutine") {
			t.Errorf("%v: %s", s, output)
		}
		if diff := cmp.Diff(before, nstest.Snapshot(t, w.m2)); diff != "" {
			t.Errorf("%v leaves something behind:\n%s", s, diff)
		}
	}
}

// TestOtherSignals wants signals that tell a server nothing to change nothing.
func TestOtherSignals(t *testing.T) {
	t.Parallel()
	c := newChain(t, loopback80)
	s := c.connect(t)
	for _, other := range []syscall.Signal{
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE, syscall.SIGALRM, syscall.SIGVTALRM, syscall.SIGPROF, syscall.SIGIO, syscall.SIGXFSZ,
		syscall.SIGCHLD, syscall.SIGURG, syscall.SIGWINCH, syscall.SIGCONT,
	} {
		c.server.Signal(other)
		c.client.Signal(other)
		s.talk(t)
	}
	if strings.Contains(c.server.Output()+c.client.Output(), "draining") {
		t.Error("it drains")
	}
}
