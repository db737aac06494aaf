package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"time"

	"portredirector/internal/testnet"
)

// process is a program that runs in a host.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string // of standard output; closed when the process has ended
	said  *tail       // on standard error, or on both if nobody reads lines
	ended chan struct{}
	err   error // how it ended; set before ended is closed
}

// maxLines is how many lines of output wait for a reader, at most. Our own
// programs write a handful.
const maxLines = 64

// startProcess starts a program. It is killed when ctx ends, or by kill, which
// has to be called in any case. With talks its standard output is read by line.
func startProcess(ctx context.Context, h *testnet.Host, talks bool, path string, args ...string) (*process, error) {
	p := &process{
		name:  filepath.Base(path) + " on " + h.Name,
		cmd:   exec.CommandContext(ctx, path, args...), //nolint:gosec // the contenders and ourselves
		lines: make(chan string, maxLines),
		said:  new(tail),
		ended: make(chan struct{}),
	}
	if talks {
		p.name = args[0] + " on " + h.Name
	}
	p.cmd.Env = plainEnv()
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	if talks {
		p.cmd.Stdout = &lineWriter{lines: p.lines}
	}
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := h.Start(p.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	go p.wait()
	return p, nil
}

// wait takes note of the end of the process.
func (p *process) wait() {
	p.err = p.cmd.Wait()
	close(p.lines)
	close(p.ended)
}

// kill ends the process and waits for it. It is an error if the process was no
// longer there.
func (p *process) kill() error {
	select {
	case <-p.ended:
		return p.failure()
	default:
	}
	err := p.cmd.Process.Kill()
	<-p.ended
	return err
}

// failure is why the process ended by itself.
func (p *process) failure() error {
	why := "exit status 0"
	if p.err != nil {
		why = p.err.Error()
	}
	if said := p.said.String(); said != "" {
		why += ": " + said
	}
	return fmt.Errorf("%s has ended: %s", p.name, why)
}

// pid returns the process id.
func (p *process) pid() int { return p.cmd.Process.Pid }

// hasSaid reports whether s is in the end of what the process has printed.
func (p *process) hasSaid(s string) bool { return p.said.contains(s) }

// line returns the next line of standard output.
func (p *process) line(ctx context.Context) (string, error) {
	select {
	case line, ok := <-p.lines:
		if !ok {
			<-p.ended
			return "", p.failure()
		}
		return line, nil
	case <-ctx.Done():
		return "", fmt.Errorf("wait for %s: %w", p.name, context.Cause(ctx))
	}
}

// tell writes a line to standard input.
func (p *process) tell(line string) error {
	if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
		return fmt.Errorf("tell %s: %w", p.name, err)
	}
	return nil
}

// readyLimit is how long a program may take to start.
const readyLimit = 10 * time.Second

// errNotReady is a program that takes longer.
var errNotReady = errors.New("is not ready")

// await waits until the process is ready, or has ended.
func (p *process) await(ctx context.Context, ready func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyLimit, errNotReady)
	defer cancel()
	for {
		if ok, err := ready(); ok || err != nil {
			return err
		}
		select {
		case <-p.ended:
			return p.failure()
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %s", p.name, context.Cause(ctx), p.said)
		case <-time.After(2 * time.Millisecond):
		}
	}
}
