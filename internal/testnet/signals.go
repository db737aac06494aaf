package testnet

import (
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
)

// signals holds the signals that reach this process until there is another one to pass them to.
type signals struct {
	caught chan os.Signal
	done   chan struct{}
	passer sync.WaitGroup
}

// catchSignals catches the signals that ask a program to end. A signal that this process was started to ignore, as by nohup, stays
// ignored, here and in its children.
func catchSignals() *signals {
	wanted := []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}
	wanted = slices.DeleteFunc(wanted, signal.Ignored)
	s := &signals{caught: make(chan os.Signal, 8), done: make(chan struct{})}
	if len(wanted) > 0 { // none would mean all
		signal.Notify(s.caught, wanted...)
	}
	return s
}

// passTo sends every signal to p, those that were caught before too, until stop is called.
func (s *signals) passTo(p *os.Process) {
	s.passer.Go(func() {
		for {
			select {
			case sig := <-s.caught:
				_ = p.Signal(sig) // it may just have ended, which whoever waits for it sees
			case <-s.done:
				return
			}
		}
	})
}

// stop gives the signals back their usual effect.
func (s *signals) stop() {
	signal.Stop(s.caught)
	close(s.done)
	s.passer.Wait()
}
