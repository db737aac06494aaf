package world

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

// Process is a program that runs in a host.
type Process struct {
	Name  string
	cmd   *exec.Cmd
	Stdin io.WriteCloser
	lines chan string // of standard output; closed when the process has ended
	said  *tail       // on standard error, or on both if nobody reads lines
	Ended chan struct{}
	err   error // how it ended; set before ended is closed
}

// maxLines bounds the lines of output that wait for a reader. Our own programs print a handful.
const maxLines = 64

// startProcess starts a program. It is killed when ctx is canceled. The caller must call Kill in any case. With talks, its
// standard output is read by line.
func startProcess(ctx context.Context, h *testnet.Host, talks bool, path string, args ...string) (*Process, error) {
	p := &Process{
		Name:  filepath.Base(path) + " on " + h.Name,
		cmd:   exec.CommandContext(ctx, path, args...), //nolint:gosec // the contenders and ourselves
		lines: make(chan string, maxLines),
		said:  new(tail),
		Ended: make(chan struct{}),
	}
	if talks {
		p.Name = args[0] + " on " + h.Name
	}
	p.cmd.Env = PlainEnv()
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	if talks {
		p.cmd.Stdout = &lineWriter{lines: p.lines}
	}
	var err error
	if p.Stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := h.Start(p.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	go p.wait()
	return p, nil
}

// wait waits for the process and closes its channels.
func (p *Process) wait() {
	p.err = p.cmd.Wait()
	close(p.lines)
	close(p.Ended)
}

// Kill ends the process and waits for it. It returns an error if the process had ended before.
func (p *Process) Kill() error {
	select {
	case <-p.Ended:
		return p.Failure()
	default:
	}
	err := p.cmd.Process.Kill()
	<-p.Ended
	return err
}

// Failure returns the reason why the process ended by itself.
func (p *Process) Failure() error {
	why := "exit status 0"
	if p.err != nil {
		why = p.err.Error()
	}
	if said := p.said.String(); said != "" {
		why += ": " + said
	}
	return fmt.Errorf("%s has ended: %s", p.Name, why)
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// HasSaid reports whether s is in the end of what the process has printed.
func (p *Process) HasSaid(s string) bool { return p.said.contains(s) }

// Line returns the next line of standard output.
func (p *Process) Line(ctx context.Context) (string, error) {
	select {
	case line, ok := <-p.lines:
		if !ok {
			<-p.Ended
			return "", p.Failure()
		}
		return line, nil
	case <-ctx.Done():
		return "", fmt.Errorf("wait for %s: %w", p.Name, context.Cause(ctx))
	}
}

// Tell writes a line to standard input.
func (p *Process) Tell(line string) error {
	if _, err := io.WriteString(p.Stdin, line+"\n"); err != nil {
		return fmt.Errorf("tell %s: %w", p.Name, err)
	}
	return nil
}

// readyLimit bounds the time in which a program starts.
const readyLimit = 10 * time.Second

// errNotReady says that a program took longer.
var errNotReady = errors.New("is not ready")

// Await waits until the process is ready, or has ended.
func (p *Process) Await(ctx context.Context, ready func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyLimit, errNotReady)
	defer cancel()
	for {
		if ok, err := ready(); ok || err != nil {
			return err
		}
		select {
		case <-p.Ended:
			return p.Failure()
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %s", p.Name, context.Cause(ctx), p.said)
		case <-time.After(2 * time.Millisecond):
		}
	}
}
