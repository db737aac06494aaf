package nstest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/testnet"
)

// Process is a program that runs in a host beside the test.
type Process struct {
	tb     testing.TB
	name   string
	cmd    *exec.Cmd
	output *transcript
	ended  chan struct{} // closed when the process has ended and was waited for
}

// Start starts a program in the host. At the end of the test its process group is killed and waited for. If the test failed, its
// output is logged. The test is skipped if the program is not installed, and fails on a CI machine.
func Start(tb testing.TB, h *testnet.Host, name string, args ...string) *Process {
	tb.Helper()
	return StartCmd(tb, h, exec.Command(lookUp(tb, name), args...))
}

// StartCmd is like [Start] for a command that needs more than arguments. The [Process] reads its output.
func StartCmd(tb testing.TB, h *testnet.Host, cmd *exec.Cmd) *Process {
	tb.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	err = h.Start(cmd)
	w.Close()
	if err != nil {
		r.Close()
		tb.Fatalf("start %s on %s: %v", cmd.Path, h.Name, err)
	}
	p := &Process{tb: tb, name: h.Name + ": " + filepath.Base(cmd.Path), cmd: cmd, output: newTranscript(), ended: make(chan struct{})}
	var goroutines sync.WaitGroup
	goroutines.Go(func() { p.output.record(r) })
	goroutines.Go(p.await)
	tb.Cleanup(func() {
		p.kill()
		// All that the process wrote is in the pipe by now, but a child in another process group may keep it open.
		_ = r.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		goroutines.Wait()
		r.Close()
		p.log()
	})
	return p
}

// Pid returns the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Output returns the output of the process so far, on both streams.
func (p *Process) Output() string { return p.output.String() }

// WaitOutput waits until the process has printed substring, and returns the first line that contains it. The test fails at once
// if the output ends without it.
func (p *Process) WaitOutput(substring string) (line string) {
	p.tb.Helper()
	line, err := p.output.waitFor(substring, patience)
	if err != nil {
		p.tb.Fatalf("%s did not print %q: %v", p.name, substring, err)
	}
	return line
}

// Signal sends a signal to the process.
func (p *Process) Signal(sig os.Signal) {
	p.tb.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.tb.Fatalf("signal %s: %v", p.name, err)
	}
}

// Wait waits up to a minute until the process ends. It returns its exit code, or 128 plus the number of the signal that ended
// it.
func (p *Process) Wait() (exitCode int) {
	p.tb.Helper()
	select {
	case <-p.ended:
	case <-time.After(runtimeLimit):
		p.tb.Fatalf("%s still runs after %v", p.name, runtimeLimit)
	}
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return p.cmd.ProcessState.ExitCode()
}

// await waits for the process and closes ended.
func (p *Process) await() {
	defer close(p.ended)
	var exit *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		p.tb.Errorf("wait for %s: %v", p.name, err)
	}
}

// kill ends the process and the others of its group, which bears its id.
func (p *Process) kill() {
	_ = syscall.Kill(-p.Pid(), syscall.SIGKILL) // an error says that none is left
	<-p.ended
}

// log shows the output of the process if the test failed.
func (p *Process) log() {
	if !p.tb.Failed() {
		return
	}
	p.tb.Logf("output of %s (%v):", p.name, p.cmd.ProcessState)
	for line := range strings.Lines(p.Output()) {
		p.tb.Logf("%s: %s", p.name, strings.TrimSuffix(line, "\n"))
	}
}
