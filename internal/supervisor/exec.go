package supervisor

import (
	"fmt"
	"log/slog"
	"os"
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
	if s.cfg.Flush != nil {
		s.cfg.Flush()
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return hasAnyPrefix(v, envState+"=") })
	defer s.signals.await()
	if s.late = s.signals.stopForExec(); len(s.late) > 0 {
		return errEnding
	}
	err = syscall.Exec(s.binary, os.Args, append(env, fmt.Sprint(envState, "=", file))) //nolint:gosec // the path of this program
	return &os.PathError{Op: "execute", Path: s.binary, Err: err}
}

// quiesce ends all goroutines that read for the supervisor, and takes what they have read.
func (s *Supervisor) quiesce() {
	s.quiet = true
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
	s.quiet = false
	s.children.reap()
	for _, sig := range s.late {
		s.end(sig.String())
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
	s.restartMissing()
}
