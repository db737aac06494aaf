package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
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

// lineWriter passes on what is written to it by line.
type lineWriter struct {
	lines chan<- string
	rest  []byte
}

func (w *lineWriter) Write(b []byte) (int, error) {
	w.rest = append(w.rest, b...)
	for {
		line, rest, ok := bytes.Cut(w.rest, []byte{'\n'})
		if !ok {
			return len(b), nil
		}
		w.lines <- string(line)
		w.rest = rest
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	kept []byte // guarded by mu
}

// tailSize is how much it keeps.
const tailSize = 4 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, b...)
	if extra := len(t.kept) - tailSize; extra > 0 {
		t.kept = append(t.kept[:0], t.kept[extra:]...)
	}
	return len(b), nil
}

// String is the last three lines, on one.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.kept)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "; ")
}

// contains reports whether s is in what is kept.
func (t *tail) contains(s string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Contains(t.kept, []byte(s))
}
