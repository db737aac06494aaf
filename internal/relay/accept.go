package relay

import (
	"errors"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/poll"
	"portredirector/internal/socket"
)

// acceptsPerTurn bounds how many sockets a loop accepts before it returns to its flows.
const acceptsPerTurn = 16

// listeners lists the listeners of an engine, which all loops share.
type listeners struct {
	life *life

	mu  sync.RWMutex
	all []*listener // guarded by mu

	accepting sync.WaitGroup // loops that have yet to stop
}

// listener is one of them.
type listener struct {
	fd     int
	handle func(fd int, from netip.AddrPort)
	pauses backoff
}

// add adds a listener.
func (s *listeners) add(n *listener) {
	s.mu.Lock()
	s.all = append(s.all, n)
	s.mu.Unlock()
}

// list returns all listeners.
func (s *listeners) list() []*listener {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.all
}

// serve gives a socket to the listener's handler. A panic costs what the handler had
// opened so far, and nothing else.
func (s *listeners) serve(n *listener, fd int, from netip.AddrPort) {
	defer s.life.recoverPanic()
	n.handle(fd, from)
}

// acceptor is one loop's part in accepting.
type acceptor struct {
	shared  *listeners
	poll    *poll.Poller
	own     []ownListener // by -2 - the number in the event
	ready   []int         // those with connections to accept
	paused  []int         // those that pause
	stopped bool
}

// ownListener is a listener as one loop sees it.
type ownListener struct {
	*listener

	until time.Time // of a pause; zero if there is none
}

// addNew adds the listeners that are new.
func (a *acceptor) addNew() {
	if a.stopped {
		return
	}
	for _, n := range a.shared.list()[len(a.own):] {
		a.own = append(a.own, ownListener{listener: n})
		a.addListener(len(a.own) - 1)
	}
}

// addListener registers a listener with epoll. An event wakes one of the loops, not
// all (EPOLLEXCLUSIVE), and is repeated as long as a connection is there.
func (a *acceptor) addListener(i int) {
	if err := a.poll.Add(a.own[i].fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, int32(poll.WakeNumber-1-i), 0); err != nil {
		a.pause(i, err)
	}
}

// stop accepts no more.
func (a *acceptor) stop() {
	for i := range a.own {
		if a.own[i].until.IsZero() {
			a.poll.Remove(a.own[i].fd)
		}
	}
	a.paused = nil
	a.stopped = true
	a.shared.accepting.Done()
}

// note records the event of a listener.
func (a *acceptor) note(number int32) { a.ready = append(a.ready, int(poll.WakeNumber-1-number)) }

// acceptAll accepts from the listeners that have connections.
func (a *acceptor) acceptAll() {
	for _, i := range a.ready {
		a.accept(i)
	}
	a.ready = a.ready[:0]
}

// accept accepts what is there, or as much as a turn allows: epoll reports the rest again.
func (a *acceptor) accept(i int) {
	n := a.own[i].listener
	for range acceptsPerTurn {
		fd, from, err := socket.Accept(n.fd)
		switch {
		case err == nil:
			n.pauses.succeed()
			a.shared.serve(n, fd, from)
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, unix.ECONNABORTED) || errors.Is(err, unix.EINTR):
			// The peer left before we came: accept(2).
		default:
			a.poll.Remove(n.fd)
			a.pause(i, os.NewSyscallError("accept4", err))
			return
		}
	}
}

// pause leaves a listener alone for a while.
func (a *acceptor) pause(i int, err error) {
	a.own[i].until = time.Now().Add(a.own[i].pauses.fail(err))
	a.paused = append(a.paused, i)
}

// pausing reports whether a listener pauses.
func (a *acceptor) pausing() bool { return len(a.paused) > 0 }

// resume ends the pauses that are over.
func (a *acceptor) resume() {
	if !a.pausing() {
		return
	}
	now, paused := time.Now(), a.paused
	a.paused = nil
	for _, i := range paused {
		if now.Before(a.own[i].until) {
			a.paused = append(a.paused, i)
		} else {
			a.own[i].until = time.Time{}
			a.addListener(i)
		}
	}
}
