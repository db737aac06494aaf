package relay

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/socket"
)

// Pauses of a listener that cannot accept, doubled each time.
const (
	minPause = 5 * time.Millisecond
	maxPause = time.Second
)

// acceptsPerTurn bounds how many sockets a loop accepts before it sees to its
// flows again.
const acceptsPerTurn = 16

// Accept has the loops accept from l, which the engine owns from then on, until
// Shutdown. Each socket goes to handle, with the address of its other end; handle
// owns it, is called on a loop, and must not block. Out of descriptors or memory
// the listener pauses, says so once, and goes on by itself.
func (e *Engine) Accept(l *net.TCPListener, handle func(fd int, from netip.AddrPort)) error {
	fd, err := socket.Detach(l)
	if err != nil {
		return err
	}
	log := e.log.With(slog.String("listener", l.Addr().String()))
	shared := &listening{fd: fd, handle: handle, pauser: pauser{log: log}}
	e.mu.Lock()
	e.listening = append(e.listening, shared)
	e.mu.Unlock()
	for _, l := range e.loops {
		l.order(orderListen)
	}
	return nil
}

// AcceptError is why some listener cannot accept, and nil if all can.
func (e *Engine) AcceptError() error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, l := range e.listening {
		if err := l.pauser.trouble(); err != nil {
			return err
		}
	}
	return nil
}

// listening is a listener, which all loops share.
type listening struct {
	fd     int
	handle func(fd int, from netip.AddrPort)
	pauser pauser
}

// listener is a loop's part in it.
type listener struct {
	*listening

	until time.Time // of a pause; zero if there is none
}

// takeListeners adds those that are new.
func (l *loop) takeListeners() {
	if l.deaf {
		return
	}
	l.engine.mu.RLock()
	all := l.engine.listening
	l.engine.mu.RUnlock()
	for _, shared := range all[len(l.listeners):] {
		l.listeners = append(l.listeners, &listener{listening: shared})
		l.hearken(len(l.listeners) - 1)
	}
}

// hearken has the loop told of what comes to a listener: one of the loops, not
// all (EPOLLEXCLUSIVE), and again as long as something is there.
func (l *loop) hearken(i int) {
	if err := l.control(l.listeners[i].fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, int32(wakeNumber-1-i), 0); err != nil {
		l.pause(i, err)
	}
}

// deafen takes the listeners out of the loop.
func (l *loop) deafen() {
	for _, s := range l.listeners {
		if s.until.IsZero() {
			_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, s.fd, nil)
		}
	}
	l.paused = nil
	l.deaf = true
	l.engine.deaf.Done()
}

// hurry bounds the openings that there are, in a Shutdown. Those that come later are
// bounded when they come.
func (l *loop) hurry() {
	for _, f := range l.all() {
		if f.opening == nil || f.opening.stage != hearing {
			continue
		}
		if !f.silent() {
			l.limit(f, lastWords)
			continue
		}
		age := time.Duration(l.now-f.active) * time.Millisecond
		if l.limit(f, max(longSilence-age, time.Millisecond)); age >= longSilence {
			l.late(f)
		}
	}
}

// Once there is a Shutdown an opening has lastWords for the rest of what it says first,
// and one that is silent has nothing under way at the age of longSilence: silence is
// not to hold up everybody.
const (
	lastWords   = 3 * time.Second
	longSilence = time.Second
)

// accept accepts what is there, or as much as a turn allows: what is left is
// reported again.
func (l *loop) accept(i int) {
	s := l.listeners[i]
	for range acceptsPerTurn {
		fd, from, err := socket.Accept(s.fd)
		switch {
		case err == nil:
			s.pauser.worked()
			l.engine.serve(s.listening, fd, from)
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, unix.ECONNABORTED) || errors.Is(err, unix.EINTR):
			// The peer left before we came: accept(2).
		default:
			_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, s.fd, nil)
			l.pause(i, os.NewSyscallError("accept4", err))
			return
		}
	}
}

// serve gives a socket to the handler. A bug in it costs what it had opened so far,
// and nothing else.
func (e *Engine) serve(s *listening, fd int, from netip.AddrPort) {
	defer e.survive()
	s.handle(fd, from)
}

// pause leaves a listener alone for a while.
func (l *loop) pause(i int, err error) {
	l.listeners[i].until = time.Now().Add(l.listeners[i].pauser.next(err))
	l.paused = append(l.paused, i)
}

// resume ends the pauses that are over.
func (l *loop) resume() {
	now, paused := time.Now(), l.paused
	l.paused = nil
	for _, i := range paused {
		if s := l.listeners[i]; now.Before(s.until) {
			l.paused = append(l.paused, i)
		} else {
			s.until = time.Time{}
			l.hearken(i)
		}
	}
}

// pauser counts the pauses of one listener. At the limit of descriptors,
// accepting works and fails by turns; that is one run of pauses, and it says
// so once.
type pauser struct {
	log *slog.Logger

	mu    sync.Mutex
	pause time.Duration
	since time.Time // the run began
	last  time.Time // the last failure
	why   error     // it happened
}

// calm is how long nothing must fail for a run of pauses to be over.
const calm = time.Second

// next is how long to pause after an error.
func (p *pauser) next(err error) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last, p.why = time.Now(), err
	if p.since.IsZero() {
		p.since = p.last
		p.log.Warn("cannot accept, pausing until it works again", slog.Any("error", err))
	}
	p.pause = min(max(2*p.pause, minPause), maxPause)
	return p.pause
}

// trouble is the last failure, if another is to be expected.
func (p *pauser) trouble() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.since.IsZero() || time.Since(p.last) > maxPause+calm {
		return nil
	}
	return fmt.Errorf("it cannot accept: %w", p.why)
}

// worked notes a connection that was accepted.
func (p *pauser) worked() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.since.IsZero() {
		return
	}
	p.pause /= 2
	if now := time.Now(); now.Sub(p.last) >= calm {
		p.log.Info("accepting again", slog.Duration("after", now.Sub(p.since)))
		p.pause, p.since = 0, time.Time{}
	}
}
