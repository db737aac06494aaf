package daemon

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// Shutdown tells a daemon when to end, in up to three stages.
type Shutdown struct {
	// Retire ends the accepting. The daemon ends with its last peer. Only a worker retires.
	Retire context.Context //nolint:containedctx // stages, each of which others wait for
	Drain  context.Context //nolint:containedctx // accept no more, and bound the time of the peers
	Cut    context.Context //nolint:containedctx // ends no earlier than Drain

	retire, drain context.CancelFunc
	cut           context.CancelCauseFunc
}

// NewShutdown returns a Shutdown none of whose stages has begun.
func NewShutdown(parent context.Context) Shutdown {
	var s Shutdown
	s.Cut, s.cut = context.WithCancelCause(parent)
	s.Drain, s.drain = context.WithCancel(s.Cut)
	s.Retire, s.retire = context.WithCancel(s.Drain)
	return s
}

// BeginRetire begins the first stage.
func (s Shutdown) BeginRetire() { s.retire() }

// BeginDrain begins the second stage.
func (s Shutdown) BeginDrain() { s.drain() }

// BeginCut begins the last stage.
func (s Shutdown) BeginCut(why error) { s.cut(why) }

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
	s := NewShutdown(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, terminating...)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	signal.Ignore(syscall.SIGPIPE, syscall.SIGUSR1) // the latter opens the access log again
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for _, act := range []func(){s.BeginDrain, func() { s.BeginCut(errSecondSignal) }} {
			select {
			case <-signals:
				act()
			case <-s.Cut.Done():
				return
			}
		}
	}()
	return s, func() {
		signal.Stop(signals)
		s.BeginCut(errSecondSignal)
		<-watched
	}
}
