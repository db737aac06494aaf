package supervisor

import (
	"errors"
	"os"
	"strconv"
	"syscall"
)

// children are the processes that were started and not waited for.
type children map[int]func(syscall.WaitStatus)

// start starts a program. files are its descriptors from 0 on. ended is called when it has
// ended.
func (c children) start(path string, args, env []string, files []int, ended func(syscall.WaitStatus)) (pid int, err error) {
	inherited := make([]uintptr, len(files))
	for i, fd := range files {
		inherited[i] = uintptr(fd)
	}
	//nolint:gosec // this program, or the one that is to take its place
	pid, err = syscall.ForkExec(path, args, &syscall.ProcAttr{Env: env, Files: inherited})
	if err != nil {
		return 0, &os.PathError{Op: "execute", Path: path, Err: err}
	}
	c[pid] = ended
	return pid, nil
}

// reap waits for all children that have ended. As process 1 of a container, a supervisor gets
// the orphans of others, too.
func (c children) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil || pid <= 0:
			return
		}
		if ended := c[pid]; ended != nil {
			delete(c, pid)
			ended(status)
		}
	}
}

// describe says how a process has ended.
func describe(status syscall.WaitStatus) string {
	switch {
	case status.Signaled():
		return "signal: " + status.Signal().String()
	default:
		return "exit status " + strconv.Itoa(status.ExitStatus())
	}
}
