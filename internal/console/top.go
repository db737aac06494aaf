package console

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"portredirector/internal/admin"
)

// Top shows the live connections of processes.
type Top struct {
	Processes Processes
	Sort      admin.Order
	Filter    string
	In, Out   *os.File
	Every     time.Duration // between two requests
}

const (
	plainWidth  = 80
	plainHeight = 104 // of a table that is printed
	plainRows   = 100
)

// Once prints the table once.
func (t Top) Once(ctx context.Context, w io.Writer) error {
	s := t.screen()
	statuses, c, err := t.ask(ctx, s.query())
	if len(statuses) == 0 {
		return err
	}
	s.update(statuses, c, err)
	lines := s.lines()
	lines = lines[:linesAbove+min(len(c.Connections), plainRows)]
	_, err = io.WriteString(w, strings.Join(lines, "\n")+"\n")
	return err
}

// screen returns an empty screen.
func (t Top) screen() *screen {
	return &screen{width: plainWidth, height: plainHeight, sort: t.Sort, filter: t.Filter}
}

// ask asks the processes.
func (t Top) ask(ctx context.Context, q admin.Query) ([]admin.Status, admin.Connections, error) {
	statuses, err := t.Processes.Status(ctx)
	if len(statuses) == 0 {
		return nil, admin.Connections{}, err
	}
	pids := make([]int, len(statuses))
	for i, s := range statuses {
		pids[i] = s.PID
	}
	c, failed := admin.AskConnections(ctx, pids, q)
	if err == nil {
		err = failed
	}
	return statuses, c, err
}

// Run shows the table until the user quits or ctx is canceled. Without a terminal that can move
// its cursor, it prints the table periodically.
func (t Top) Run(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if os.Getenv("TERM") == "dumb" || !term.IsTerminal(int(t.In.Fd())) || !term.IsTerminal(int(t.Out.Fd())) {
		return t.print(ctx)
	}
	before, err := term.MakeRaw(int(t.In.Fd()))
	if err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	defer func() { _ = term.Restore(int(t.In.Fd()), before) }()
	_, _ = io.WriteString(t.Out, enter) // drawing would fail too
	defer func() { _, _ = io.WriteString(t.Out, leave) }()
	return t.show(ctx)
}

// print prints the table periodically.
func (t Top) print(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := t.Once(ctx, t.Out); err != nil {
			return err
		}
		select {
		case <-time.After(t.Every):
			_, _ = fmt.Fprintln(t.Out) // the next table would fail too
		case <-ctx.Done():
		}
	}
	return nil
}

// Sequences that enter and leave the terminal's alternate screen, without cursor and line wrapping
// (console_codes(4)).
const (
	enter     = "\x1b[?1049h\x1b[?25l\x1b[?7l"
	leave     = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	home      = "\x1b[H"
	clearLine = "\x1b[K"
	reverse   = "\x1b[7m"
	normal    = "\x1b[m"
)

// show shows the table on a terminal.
func (t Top) show(ctx context.Context) error {
	keys, stopKeys, err := t.keys()
	if err != nil {
		return err
	}
	defer stopKeys()
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)

	s := t.screen()
	a := newAsker(ctx, t)
	defer a.stop()
	a.ask(s.query())
	for {
		if w, h, err := term.GetSize(int(t.Out.Fd())); err == nil && w > 0 {
			s.width, s.height = w, h
			s.scroll()
		}
		if err := t.draw(s); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-resized:
		case f := <-a.answers:
			f(s)
		case <-a.due():
			a.ask(s.query())
		case k, ok := <-keys:
			if !ok {
				return nil // the terminal is gone
			}
			switch s.press(k) {
			case quit:
				return nil
			case refresh:
				a.ask(s.query())
			case closeIt:
				a.close(s.closing)
			case nothing:
			}
		}
	}
}

// draw draws the screen.
func (t Top) draw(s *screen) error {
	plain := os.Getenv("NO_COLOR") != ""
	var b strings.Builder
	b.WriteString(home)
	for i, line := range s.lines() {
		if i > 0 {
			b.WriteString("\r\n")
		}
		if !plain && (i == linesAbove-1 || strings.HasPrefix(line, "> ")) {
			line = reverse + line + clearLine + normal
		}
		b.WriteString(line + clearLine)
	}
	_, err := io.WriteString(t.Out, b.String())
	return err
}

// keys reads keys on a goroutine until stop is called. The channel is closed when the terminal is
// gone.
func (t Top) keys() (_ <-chan key, stop func(), err error) {
	woken, wake, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	keys, stopped := make(chan key), make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(keys)
		buf := make([]byte, 256)
		for {
			if !readable(int(t.In.Fd()), int(woken.Fd())) {
				return
			}
			n, err := unix.Read(int(t.In.Fd()), buf)
			if n <= 0 || err != nil {
				return
			}
			for _, k := range readKeys(buf[:n]) {
				select {
				case keys <- k:
				case <-stopped:
					return
				}
			}
		}
	})
	return keys, func() {
		close(stopped)
		_ = wake.Close()
		reading.Wait()
		_ = woken.Close()
	}, nil
}

// readable waits until in is readable. It returns false if wake is closed first.
func readable(in, wake int) bool {
	fds := []unix.PollFd{{Fd: int32(in), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}} //nolint:gosec // descriptors
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case err == unix.EINTR:
		case err != nil || fds[1].Revents != 0:
			return false
		default:
			return true
		}
	}
}

// asker sends requests on goroutines, so that keys do not wait for answers.
type asker struct {
	ctx    context.Context //nolint:containedctx // of Run
	cancel context.CancelFunc
	top    Top

	answers chan func(*screen)
	asking  sync.WaitGroup
	number  int       // of the last request
	asked   time.Time // the time of the last request
	waiting bool      // the last request has no answer yet
}

func newAsker(ctx context.Context, t Top) *asker {
	a := &asker{top: t, answers: make(chan func(*screen))}
	a.ctx, a.cancel = context.WithCancel(ctx)
	return a
}

// stop cancels all requests and waits for their goroutines.
func (a *asker) stop() {
	a.cancel()
	a.asking.Wait()
}

// due returns a channel that fires when the next request is due, never before the last one is
// answered.
func (a *asker) due() <-chan time.Time {
	if a.waiting {
		return nil
	}
	return time.After(a.top.Every - time.Since(a.asked))
}

// answer updates the screen with an answer.
func (a *asker) answer(f func(*screen)) {
	select {
	case a.answers <- f:
	case <-a.ctx.Done():
	}
}

// ask sends a request. The answers to earlier requests are ignored from now on.
func (a *asker) ask(q admin.Query) {
	a.number++
	number := a.number
	a.asked, a.waiting = time.Now(), true
	a.asking.Go(func() {
		statuses, c, err := a.top.ask(a.ctx, q)
		a.answer(func(s *screen) {
			if number == a.number {
				a.waiting = false
				s.update(statuses, c, err)
			}
		})
	})
}

// close closes a connection on a goroutine.
func (a *asker) close(c *admin.Connection) {
	a.asking.Go(func() {
		pids := []int{c.Key.PID}
		err := admin.AskClose(a.ctx, pids, c.Key)
		a.answer(func(s *screen) { s.closed(c, err) })
	})
}
