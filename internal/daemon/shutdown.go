package daemon

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// Shutdown tells a daemon when to end.
type Shutdown struct {
	Drain context.Context //nolint:containedctx // a pair of contexts is what this type is
	Cut   context.Context //nolint:containedctx // ends no earlier than Drain
}

// Causes of a cut.
var (
	errDrainOver    = errors.New("the drain timeout is over")
	errSecondSignal = errors.New("a second signal")
)

// terminating lists the signals that end a daemon, besides SIGHUP. Without a handler the runtime
// would answer most of them with a stack dump, and the return routes would stay. SIGSEGV and the
// others that the processor raises come here only if another process sends them; those of the
// program itself are panics. SIGXCPU announces the SIGKILL of RLIMIT_CPU.
var terminating = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGXCPU, syscall.SIGPWR,
	syscall.SIGILL, syscall.SIGTRAP, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGSEGV, syscall.SIGSYS, syscall.SIGSTKFLT,
}

// ShutdownOnSignal returns a Shutdown that drains at the first terminating signal and cuts at the
// second. SIGHUP terminates unless it is ignored, as by nohup. SIGPIPE is ignored: standard error
// may break. The returned function stops the watching and waits for its end.
func ShutdownOnSignal(parent context.Context) (Shutdown, func()) {
	cut, cutCause := context.WithCancelCause(parent)
	cutNow := func() { cutCause(errSecondSignal) }
	drain, drainNow := context.WithCancel(cut)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, terminating...)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	signal.Ignore(syscall.SIGPIPE)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for _, act := range []func(){drainNow, cutNow} {
			select {
			case <-signals:
				act()
			case <-cut.Done():
				return
			}
		}
	}()
	return Shutdown{Drain: drain, Cut: cut}, func() {
		signal.Stop(signals)
		cutNow()
		<-watched
	}
}
