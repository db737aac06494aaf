package supervisor

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"
	"unsafe"

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

// tryExecute leaves the state to the next program, and executes it. Signals wait until that
// handles them: execve(2) keeps the mask and what is pending.
func (s *Supervisor) tryExecute() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer blockSignals()()
	if !s.takeSignals() {
		return errEnding
	}
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
	err = syscall.Exec(s.binary, os.Args, append(env, fmt.Sprint(envState, "=", file))) //nolint:gosec // the path of this program
	return &os.PathError{Op: "execute", Path: s.binary, Err: err}
}

// takeSignals takes those that have come. It returns false if one of them ends the supervisor.
func (s *Supervisor) takeSignals() bool {
	for {
		select {
		case sig := <-s.signals:
			switch sig {
			case syscall.SIGCHLD: // see resume, and begin
			case syscall.SIGHUP:
				s.wanted = true
			case syscall.SIGUSR1:
				s.reopenLogs()
			default:
				s.late = append(s.late, sig)
				return false
			}
		default:
			return true
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
		s.callers.server.Close()
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

// blockSignals keeps signals from this thread until the returned function is called.
func blockSignals() (restore func()) {
	var set, before unix.Sigset_t
	const bits = 8 * int(unsafe.Sizeof(set.Val[0]))
	for _, sig := range append([]os.Signal{syscall.SIGHUP, syscall.SIGUSR1}, terminating...) {
		if n, ok := sig.(syscall.Signal); ok {
			set.Val[(int(n)-1)/bits] |= 1 << ((int(n) - 1) % bits)
		}
	}
	_ = unix.PthreadSigmask(unix.SIG_BLOCK, &set, &before)
	return func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) }
}
