package supervisor

import (
	"os"
	"os/signal"
	"syscall"
)

// signals receives what a supervisor is sent. Each kind has a channel, so that many of one do
// not hide another. One that waits stands for all of its kind, except those that end.
type signals struct{ end, reload, reopen, child chan os.Signal }

// terminating lists the signals that end a supervisor.
var terminating = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGPWR}

func newSignals() signals {
	const most = 8
	return signals{make(chan os.Signal, most), make(chan os.Signal, 1), make(chan os.Signal, 1), make(chan os.Signal, 1)}
}

// await begins to receive.
func (s signals) await() {
	signal.Notify(s.end, terminating...)
	signal.Notify(s.reload, syscall.SIGHUP)
	signal.Notify(s.reopen, syscall.SIGUSR1)
	signal.Notify(s.child, syscall.SIGCHLD)
}

// stop receives no more.
func (s signals) stop() {
	for _, c := range []chan os.Signal{s.end, s.reload, s.reopen, s.child} {
		signal.Stop(c)
	}
}

// stopForExec receives no more, and returns the signals that would have ended the supervisor.
// Later ones end the process, so that the workers drain. Others would end it, too, and are
// ignored until the next program receives them. What they ask for it does anyway, see begin.
func (s signals) stopForExec() (late []os.Signal) {
	signal.Ignore(syscall.SIGHUP, syscall.SIGUSR1)
	s.stop()
	for {
		select {
		case sig := <-s.end:
			late = append(late, sig)
		default:
			return late
		}
	}
}
