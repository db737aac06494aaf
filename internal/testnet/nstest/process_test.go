package nstest_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/testnet/nstest"
)

func TestStart(t *testing.T) {
	h := nstest.NewHost(t, "h")
	p := nstest.Start(t, h, "sh", "-c", `echo one; echo two and a half >&2; printf prompt; read x; echo got $?; exit 5`)
	p.WaitOutput("prompt")
	if line := p.WaitOutput("and"); line != "two and a half" {
		t.Errorf("got line %q", line)
	}
	if code := p.Wait(); code != 5 {
		t.Errorf("exit code %d, want 5", code)
	}
	p.WaitOutput("got")
	if want := "one\ntwo and a half\npromptgot 1\n"; p.Output() != want {
		t.Errorf("output %q, want %q", p.Output(), want)
	}
}

func TestSignal(t *testing.T) {
	h := nstest.NewHost(t, "h")
	p := nstest.Start(t, h, "sleep", "1000")
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(); code != 128+int(syscall.SIGTERM) {
		t.Errorf("exit code %d, want 143", code)
	}
}

func TestCleanupKills(t *testing.T) {
	h := nstest.NewHost(t, "h")
	var pid int
	begin := time.Now()
	r := record(t, func(tb testing.TB) {
		p := nstest.Start(tb, h, "sh", "-c", `trap "" TERM; setsid sleep 1000 & sleep 1000 & echo child $!; wait`)
		_, err := fmt.Sscanf(p.WaitOutput("child"), "child %d", &pid)
		if err != nil {
			t.Error(err)
		}
	})
	if r.Failed() || r.log.String() != "" {
		t.Errorf("failed %t, log %s", r.Failed(), r.log.String())
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
	// Init has yet to reap it.
	for deadline := time.Now().Add(5 * time.Second); !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a child of the process outlived the test")
		}
	}
}

func TestWaitOutputFails(t *testing.T) {
	h := nstest.NewHost(t, "h")
	r := record(t, func(tb testing.TB) {
		nstest.Start(tb, h, "echo", "something else").WaitOutput("something of note")
	})
	r.check(t, `h: echo did not print "something of note": its output has ended`, "h: echo: something else")
}

func TestRun(t *testing.T) {
	h := nstest.NewHost(t, "h")
	if out := nstest.Run(t, h, "sh", "-c", "echo out; echo err >&2"); out != "out\n" {
		t.Errorf("got %q, want standard output", out)
	}
	if out := nstest.Run(t, h, "ip", "-4", "-o", "address"); !strings.Contains(out, "127.0.0.1") || strings.Count(out, "\n") != 1 {
		t.Errorf("got %q, want the loopback interface alone", out)
	}
	r := record(t, func(tb testing.TB) { nstest.Run(tb, h, "sh", "-c", "echo out; echo err >&2; exit 3") })
	r.check(t, "sh -c", "on h: exit status 3", "out\nerr\n")
}

func TestProgramNotInstalled(t *testing.T) {
	h := nstest.NewHost(t, "h")
	start := func(tb testing.TB) { nstest.Start(tb, h, "no-such-program") }
	t.Setenv("CI", "")
	if r := record(t, start); !r.Skipped() || r.Failed() {
		t.Errorf("skipped %t, failed %t; want it skipped", r.Skipped(), r.Failed())
	}
	t.Setenv("CI", "true")
	record(t, start).check(t, "no-such-program is not installed")
}
