package supervisor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// checkTimeout bounds a check of the file.
	checkTimeout = 30 * time.Second
	// mostSaid bounds what is read of what a check prints.
	mostSaid = 64 << 10
)

// binary returns the path of the program as it was called, so that a symbolic link there may
// lead to another version later.
func binary() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	called, err := exec.LookPath(os.Args[0])
	if err != nil {
		return self, nil
	}
	if called, err = filepath.Abs(called); err != nil {
		return self, nil
	}
	a, err1 := os.Stat(called) //nolint:gosec // the name of this very program
	b, err2 := os.Stat("/proc/self/exe")
	if err1 != nil || err2 != nil || !os.SameFile(a, b) {
		return self, nil
	}
	return called, nil
}

// check has the program on disk check the file, and then execute does the rest.
func (s *Supervisor) check() {
	said, theirs, err := os.Pipe()
	if err != nil {
		s.fail(err)
		return
	}
	r := s.reload
	var status *syscall.WaitStatus
	var output []byte
	finished := false
	both := func() {
		if status != nil && finished && s.reload == r {
			s.checked(*status, output)
		}
	}
	pid, err := s.children.start(s.binary, []string{"portredirector", "check", s.cfg.Path}, s.environ(),
		[]int{0, s.null, int(theirs.Fd())}, func(st syscall.WaitStatus) { status = &st; both() })
	_ = theirs.Close()
	if err != nil {
		_ = said.Close()
		s.fail(err)
		return
	}
	limit := time.AfterFunc(checkTimeout, func() {
		s.post(func() {
			if status == nil && s.reload == r {
				_ = kill(pid)
			}
		})
	})
	s.readers.Go(func() {
		text, _ := io.ReadAll(io.LimitReader(said, mostSaid))
		_ = said.Close()
		limit.Stop()
		s.post(func() { output, finished = text, true; both() })
	})
}

// checked goes on if the program on disk is content with the file.
func (s *Supervisor) checked(status syscall.WaitStatus, output []byte) {
	err := s.checkError(status, output)
	if err == nil {
		err = s.execute() // which does not return if it succeeds
	}
	if s.reload != nil { // else a signal has ended it
		s.fail(err)
	}
}

// checkError returns the first mistake that a check has found. Each has a line with its place,
// and more lines that show it.
func (s *Supervisor) checkError(status syscall.WaitStatus, output []byte) error {
	if status == 0 {
		return nil
	}
	first, rest, _ := strings.Cut(strings.TrimSpace(string(output)), "\n")
	first = strings.TrimPrefix(first, "portredirector: ")
	more := strings.Count("\n"+rest, "\n"+s.cfg.Path+":")
	switch {
	case status.Signaled() || first == "":
		return fmt.Errorf("%s check %s: %s", s.binary, s.cfg.Path, describe(status))
	case more > 0:
		return fmt.Errorf("%s (and %d more, see `portredirector check`)", first, more)
	}
	return errors.New(first)
}

// kill kills a child that was not waited for.
func kill(pid int) error { return unix.Kill(pid, unix.SIGKILL) }
