package relay

import (
	"bytes"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/socket"
	"portredirector/internal/wire"
)

// A link outlives its pair. It is free when each end has said that the exchange is over.
// If a pair is reset this end says so by a frame, and waits for the other end's word. Where
// that is not possible, or takes long, the link itself is reset.

const (
	// leaveTimeout bounds the wait for the other end's word, and leaveBytes what comes
	// before it. The other end may count on the link as soon as it has sent that word, with as much
	// before it as the kernel has taken for this end: a receive buffer (tcp_rmem).
	leaveTimeout = 2 * time.Second
	leaveBytes   = 16 << 20
	// resetBytes is the most that may be under way before the frame of a reset.
	resetBytes = 64 << 10
)

// startLeaving makes f a flow whose link is to be free.
func (f *flow) startLeaving(w *workspace) {
	f.finishSetup(w)
	f.setup = &setup{stage: leaving}
	w.setDeadline(f.setup, leaveTimeout)
}

// readLeaving discards what a link says, until the other end has ended the exchange.
func (f *flow) readLeaving(w *workspace) (more bool, ev event, err error) {
	l, _ := f.link()
	s := &f.side[l]
	for reads := 0; s.hasMore() || s.failed; reads++ {
		if reads >= turnReads {
			return true, nothing, nil
		}
		s.failed = false
		n, _, err := s.read(w.buf)
		f.setup.discarded += n
		switch {
		case s.frames.in.Over() == wire.Bye:
			return false, brokeEvent(l), errBye
		case s.frames.in.Over() != 0:
			return false, finished, nil
		case err != nil:
			return false, brokeEvent(l), err
		case f.setup.discarded > leaveBytes:
			return false, timedOut, nil
		}
	}
	return false, nothing, nil
}

// linkOver reports whether the exchange of side l is over: each end has said so.
func (f *flow) linkOver(l int) bool {
	return f.side[l].frames.in.Over() == wire.Ended && f.dir[1-l].finished
}

// freeLink takes a link out of the flow, which lives on for the other side, and gives it
// to OnFree.
func (f *flow) freeLink(w *workspace, l int) {
	s := f.side[l]
	if s.watched {
		w.poll.remove(s.fd)
	}
	f.side[l] = side{fd: -1, writable: true}
	if s.frames.onFree == nil {
		socket.Close(s.fd)
		return
	}
	s.frames.onFree(s.fd, s.frames.raw)
}

// partLink ends the exchange of a link whose pair ends by an event. It reports whether that
// is possible. If awaits is true the other end has not ended the exchange yet.
func (f *flow) partLink(l int, ev event, err error) (parts, awaits bool) {
	s := &f.side[l]
	over := s.frames.in.Over()
	switch {
	case ev == cut, ev == failed, ev == connectFailed, s.broken, over == wire.Bye, errors.Is(err, wire.ErrFrame):
		return false, false
	case ev == brokeEvent(l) && over != wire.Reset:
		return false, false
	case ev == timedOut && f.stage() == awaitingStatus: // its program may hang
		return false, false
	case s.frames.ended:
		return over != 0 && f.dir[1-l].finished, false
	}
	return f.sayReset(l), over == 0
}

// sayReset tells the other end of a link that the pair was reset. It returns false if that cannot
// be said now.
func (f *flow) sayReset(l int) bool {
	s, dir := &f.side[l], &f.dir[1-l]
	status := dir.rest[:dir.extra] // was not written so far
	within := len(status) == 0 && len(dir.rest) > 0 || dir.pipe.filled() && dir.pipe.framed
	if within || len(status) > 0 && f.setup != nil || !s.writable ||
		f.meter.moved[1-l].Load() > resetBytes && s.unacked() > resetBytes {
		return false
	}
	b := wire.AppendHead(bytes.Clone(status), wire.KindReset, 0)
	n, err := s.write(b)
	s.frames.ended = err == nil && n == len(b) && s.writable
	return s.frames.ended
}

// errLinkReset is the reset of a pair by the other end of its link.
var errLinkReset = linkReset{}

type linkReset struct{}

func (linkReset) Error() string        { return "reset by the other end of the link" }
func (linkReset) Is(target error) bool { return target == unix.ECONNRESET }
