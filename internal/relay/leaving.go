package relay

import (
	"bytes"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/socket"
	"portredirector/internal/wire"
)

// A link outlives its pair. It is free when each end has sent its terminator, the frame that
// ends an exchange. Then it goes to OnFree, and is idle until its next exchange.
//
// If a pair is reset before, this end sends a reset frame and waits for the other end's
// terminator. Meanwhile the link is leaving. Where that is not possible, or takes long, the
// link itself is reset.

const (
	// leaveTimeout bounds the wait for the other end's terminator, and leaveBytes what comes
	// before it. For the other end the link is idle once the kernel has taken the terminator.
	// As much as a receive buffer (tcp_rmem) may be before it.
	leaveTimeout = 2 * time.Second
	leaveBytes   = 16 << 20
	// resetBytes is the most that may be under way before the frame of a reset.
	resetBytes = 64 << 10
)

// startLeaving makes f the flow of a link that waits for the other end's terminator.
func (f *flow) startLeaving(w *workspace) {
	f.finishSetup(w)
	f.setup = &setup{stage: leaving}
	w.setDeadline(f.setup, leaveTimeout)
}

// readLeaving discards what a link says, up to the other end's terminator.
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
			return false, brokeEvent(l), ErrBye
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

// linkOver reports whether the exchange on side l has ended in order, in both directions.
func (f *flow) linkOver(l int) bool {
	return f.side[l].frames.in.Over() == wire.Ended && f.dir[1-l].finished
}

// freeLink takes a link out of the flow, which lives on for the other side, and gives it
// to OnFree.
func (f *flow) freeLink(w *workspace, l int) {
	s := f.side[l]
	if s.watched {
		w.poll.Remove(int(s.fd))
	}
	f.side[l] = side{fd: -1, writable: true}
	give := s.frames.onFree
	switch {
	case give == nil:
		socket.Close(int(s.fd))
	case l == dialed && f.meter.Up() > resetBytes && s.unacked() > resetBytes:
		// The next pair could reset the link, and lose what is under way of this one.
		if s.layer != nil {
			_ = s.layer.CloseWrite()
			_ = s.layer.Flush()
		}
		socket.Close(int(s.fd))
		give(-1, nil)
	default:
		give(int(s.fd), s.frames.raw)
	}
}

// partLink parts a link from its pair, which ends by an event. It returns false if the link
// must be reset. awaits reports whether the other end's terminator is still to come.
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
	case s.ended:
		return over != 0 && f.dir[1-l].finished, false
	}
	return f.sayReset(l), over == 0
}

// sayReset writes a reset frame to a link. It returns false if the frame may not be written
// now, or was not taken whole.
func (f *flow) sayReset(l int) bool {
	s, dir := &f.side[l], &f.dir[1-l]
	status := dir.rest[:dir.extra] // not written yet
	within := len(status) == 0 && len(dir.rest) > 0 || dir.pipe.filled() && dir.pipe.framed
	if within || len(status) > 0 && f.setup != nil || !s.writable ||
		f.meter.moved[1-l].Load() > resetBytes && s.unacked() > resetBytes {
		return false
	}
	b := wire.AppendHead(bytes.Clone(status), wire.KindReset, 0)
	n, err := s.write(b)
	s.ended = err == nil && n == len(b) && s.writable
	return s.ended
}

// ErrLinkReset reports that the other end reset the pair by a frame. The link itself is intact.
var ErrLinkReset error = linkReset{}

type linkReset struct{}

func (linkReset) Error() string        { return "reset by the other end of the link" }
func (linkReset) Is(target error) bool { return target == unix.ECONNRESET }
