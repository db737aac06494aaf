package testnet

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// EnvIsolated names the environment variable that [Isolate] sets. Start a child without it if the child must not take itself for
// isolated.
const EnvIsolated = "PORTREDIRECTOR_ISOLATED"

// The values of EnvIsolated.
const (
	stageInit   = "init" // process 1 of the PID namespace, see runInit
	stageInside = "yes"  // the program itself, and what it starts
)

// setupFD is the descriptor of the pipe on which the init process reports errors before the program is started.
const setupFD = 3

// Isolated reports whether this process already runs inside namespaces made by [Isolate].
func Isolated() bool {
	return os.Getenv(EnvIsolated) == stageInside
}

// Isolate runs this program again, with the same arguments and standard streams, in a user, network, mount and PID namespace
// of its own, and returns its exit code once it and everything that it started is gone. A program that a signal ended has the
// exit code 128 plus the number of the signal. An error means that the program did not get to run.
//
// Call it early: all that the program does before this call, the new process does too. It may do so twice, because an init
// process stands between the two; there Isolate does not return.
//
// SIGINT, SIGTERM, SIGHUP and SIGQUIT are passed on. The new process is in a session of its own, so that it gets a Ctrl-C once,
// from here, and not a second time from the terminal.
//
// Inside, the program is root over its namespaces. For a plain user that is one id only, their own, and setgroups is denied;
// for root all ids are mapped, so that programs which drop privileges, such as sshd, can. Where user namespaces are not
// permitted, root goes without.
//
// The PID namespace is there because the kernel kills all that is in it when its first process ends. So neither a program that
// is killed, nor one that forgets what it started, leaves a process behind.
func Isolate() (exitCode int, err error) {
	if os.Getenv(EnvIsolated) == stageInit {
		runInit()
	}
	sys, err := userNamespace()
	if err == nil {
		if exitCode, err = reexec(sys); err == nil {
			return exitCode, nil
		}
	}
	if os.Geteuid() == 0 {
		exitCode, plainErr := reexec(&syscall.SysProcAttr{})
		if plainErr == nil {
			return exitCode, nil
		}
		err = errors.Join(err, fmt.Errorf("without a user namespace: %w", plainErr))
	}
	return 0, fmt.Errorf("isolate: %w", err)
}

// reexec starts the init process in new namespaces, beside the user namespace that sys may ask for, and waits for it.
func reexec(sys *syscall.SysProcAttr) (exitCode int, err error) {
	// Pdeathsig fires when the thread that forked ends, not the process: stay on this one until the child is gone.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	sys.Pdeathsig = syscall.SIGKILL
	sys.Setsid = true
	sys.Cloneflags |= unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID

	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	signals := catchSignals()
	defer signals.stop()
	p, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{
		Env:   environ(stageInit),
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr, setupFD: w},
		Sys:   sys,
	})
	w.Close()
	if err != nil {
		return 0, err
	}
	signals.passTo(p)

	problem, readErr := io.ReadAll(r) // ends when the program was started, or will not be
	state, err := p.Wait()
	if err := errors.Join(readErr, err); err != nil {
		return 0, fmt.Errorf("wait for the init process: %w", err)
	}
	if len(problem) > 0 {
		return 0, errors.New(string(problem))
	}
	return exitStatus(state.Sys().(syscall.WaitStatus)), nil //nolint:errcheck,forcetypeassert // what Unix has
}
