package supervisor

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// execute executes the program on disk in place of this one. The process stays the same, and
// so the workers are still its children. It returns only if that fails.
func (s *Supervisor) execute() error {
	s.quiesce()
	err := s.tryExecute()
	s.resume()
	return err
}

// tryExecute leaves the state to the next program, and executes it.
func (s *Supervisor) tryExecute() error {
	left, kept, err := s.leave()
	defer kept.close()
	if err != nil {
		return err
	}
	file, err := writeMemory("state", left)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(file) }()
	if err := closeOnExec(file, false); err != nil {
		return err
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return hasAnyPrefix(v, envState+"=") })
	defer s.awaitSignals()
	if s.endsBySignal() {
		return errEnding
	}
	err = syscall.Exec(s.binary, os.Args, append(env, fmt.Sprint(envState, "=", file))) //nolint:gosec // the path of this program
	return &os.PathError{Op: "execute", Path: s.binary, Err: err}
}

// awaitSignals begins to receive signals.
func (s *Supervisor) awaitSignals() {
	signal.Notify(s.signals, append(terminating, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGCHLD)...)
}

// endsBySignal receives signals no more, and reports whether one that ends the supervisor has
// come. Later ones end the process, so that the workers drain. Others would end it, too, and are
// ignored until the next program receives them. What they ask for it does anyway, see begin.
func (s *Supervisor) endsBySignal() bool {
	signal.Ignore(syscall.SIGHUP, syscall.SIGUSR1)
	signal.Stop(s.signals)
	for {
		select {
		case sig := <-s.signals:
			if slices.Contains(terminating, sig) {
				s.late = append(s.late, sig)
			}
		default:
			return len(s.late) > 0
		}
	}
}

// quiesce ends all goroutines that read for the supervisor, and takes what they have read.
func (s *Supervisor) quiesce() {
	past := time.Unix(1, 0)
	for _, w := range s.workers {
		_ = w.conn.SetReadDeadline(past)
	}
	_ = s.callers.reload.SetDeadline(past)
	quiet := make(chan struct{})
	go func() {
		s.callers.stop()
		s.readers.Wait()
		close(quiet)
	}()
	for {
		select {
		case f := <-s.events:
			f()
		case <-quiet:
			return
		}
	}
}

// resume begins to read again.
func (s *Supervisor) resume() {
	s.children.reap()
	for _, sig := range s.late {
		s.handle(sig)
	}
	s.late = nil
	for _, w := range s.workers {
		_ = w.conn.SetReadDeadline(time.Time{})
		if !w.closed {
			s.read(w)
		}
	}
	_ = s.callers.reload.SetDeadline(time.Time{})
	if err := s.callers.serve(s); err != nil {
		s.log.Error("`portredirector health` and reload will not find this process", slog.Any("error", err))
	}
}
