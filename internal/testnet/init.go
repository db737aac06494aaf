package testnet

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// runInit runs as process 1 of the PID namespace. It prepares the namespaces, runs the program as its child, reaps orphans, and
// exits with the program's exit code, whereupon the kernel kills the rest. The program itself is not process 1, since that one
// receives no signal without a handler. runInit does not exit by os.Exit, in which the race detector would sleep for a second.
func runInit() {
	report := os.NewFile(setupFD, "setup report")
	syscall.CloseOnExec(setupFD)
	signals := catchSignals()
	p, err := startProgram()
	if err != nil {
		fmt.Fprint(report, err)
		syscall.Exit(1)
	}
	report.Close()
	signals.passTo(p)
	code, err := reap(p.Pid)
	if err != nil {
		fmt.Fprintln(os.Stderr, "init of the isolated program:", err)
		syscall.Exit(1)
	}
	syscall.Exit(code)
}

// startProgram starts the program in the namespaces of this process, once these are ready for it.
func startProgram() (*os.Process, error) {
	if err := mountProc(); err != nil {
		return nil, err
	}
	if err := furnish(); err != nil {
		return nil, err
	}
	return os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{
		Env:   environ(stageInside),
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
}

// mountProc puts a /proc over the old one that shows the processes of this PID namespace under their numbers in it.
func mountProc() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}

// reap waits for all children of this process until the one with the id pid has ended, and returns its exit code.
func reap(pid int) (exitCode int, err error) {
	for {
		var status syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait4: %w", err)
		case ended == pid:
			return exitStatus(status), nil
		}
	}
}

// exitStatus returns the exit code that a shell would show for status.
func exitStatus(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// environ returns the environment of this process with the stage that the next one is in.
func environ(stage string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, EnvIsolated+"=") })
	return append(env, EnvIsolated+"="+stage)
}
