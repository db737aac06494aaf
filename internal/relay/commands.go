package relay

import "time"

// Commands to a loop.
const (
	cmdAddListeners     = 1 << iota // accept from the listeners that are new
	cmdStopAccepting                // accept no more
	cmdShortenDeadlines             // bound the prefaces
	cmdCall                         // call functions
	cmdCut                          // cut all flows
	cmdStop                         // end the loop
)

// post wakes the loop to run a command.
func (l *loop) post(command uint32) {
	l.commands.Or(command)
	l.poll.Interrupt()
}

// postCall makes the loop call f, unless the loop has ended.
func (l *loop) postCall(f func()) {
	l.mu.Lock()
	l.calls = append(l.calls, f)
	l.mu.Unlock()
	l.post(cmdCall)
}

// runCommands runs the posted commands. It returns false after cmdStop.
func (l *loop) runCommands(c uint32) bool {
	if c&cmdAddListeners != 0 {
		l.acceptor.addNew()
	}
	if c&cmdStopAccepting != 0 {
		l.draining = true
		l.acceptor.stop()
	}
	if c&cmdShortenDeadlines != 0 {
		l.shortenDeadlines()
	}
	if c&cmdCall != 0 {
		l.callAll()
	}
	if c&cmdCut != 0 {
		for _, f := range l.flows.all() {
			l.finish(f, cut, nil)
		}
	}
	return c&cmdStop == 0
}

// callAll calls the posted functions.
func (l *loop) callAll() {
	l.mu.Lock()
	list := l.calls
	l.calls = nil
	l.mu.Unlock()
	for _, f := range list {
		f()
	}
}

// longSilence is the age at which a silent preface has nothing under way any more: it must not
// hold up a Shutdown.
const longSilence = time.Second

// shortenDeadlines bounds the prefaces for a Shutdown.
func (l *loop) shortenDeadlines() {
	for _, f := range l.flows.all() {
		if f.stage() != prefacing {
			continue
		}
		if !f.silent() {
			l.setDeadline(f.setup, lastWords)
			continue
		}
		age := time.Duration(l.now-f.active) * time.Millisecond
		if l.setDeadline(f.setup, max(longSilence-age, time.Millisecond)); age >= longSilence {
			l.finish(f, timedOut, nil)
		}
	}
}
