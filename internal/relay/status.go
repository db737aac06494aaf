package relay

import (
	"bytes"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/socket"
	"portredirector/internal/wire"
)

// statusGrace is added to the time of a status, which may be on its way when the time is
// over: the other end may use as much, and checks its clock once a second, too.
const statusGrace = 2 * time.Second

var errEndsUnanswered = errors.New("ended before its answer")

// finishConnect checks whether the dialed socket is connected, and has the accepted
// one watched from then on: what comes there earlier has to wait anyway.
func (f *flow) finishConnect(w *workspace) (event, error) {
	a, d := &f.side[accepted], &f.side[dialed]
	switch {
	case a.failed:
		a.failed = false
		return acceptedBroke, os.NewSyscallError("recv", socket.Error(int(a.fd)))
	case d.failed:
		return f.failConnect(w, socket.Error(int(d.fd)))
	case !d.writable:
		return nothing, nil
	}
	if !a.watched {
		if err := a.watch(w.poll, f.number, accepted, watched); err != nil {
			return failed, err
		}
		a.readable, a.writable = true, true // perhaps
	}
	w.noteConnected(f)
	f.active = w.now
	if f.meter.isCut.Load() { // before it had this flow, perhaps
		return closed, nil
	}
	if f.setup.onStatus == nil {
		note(&f.meter.connected)
		f.finishSetup(w)
		w.hold(f)
		return nothing, nil
	}
	f.setup.stage = awaitingStatus
	timeout := f.setup.timeout
	if timeout > 0 {
		timeout += statusGrace
	}
	w.setDeadline(f.setup, timeout)
	return nothing, nil
}

// failConnect tells a dialed socket that could not be connected from one that was
// connected and reset at once.
func (f *flow) failConnect(w *workspace, err error) (event, error) {
	if !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
		return connectFailed, os.NewSyscallError("connect", err)
	}
	// It was connected before (tcp_reset in the kernel's net/ipv4/tcp_input.c).
	f.side[dialed].failed, f.side[dialed].broken = false, true
	if f.setup.onStatus != nil {
		f.setup.stage = awaitingStatus
		if ev, err := f.readStatus(w); ev != nothing {
			return ev, err
		}
	}
	return dialedBroke, os.NewSyscallError("recv", err)
}

// readStatus reads the status of a link, when it is there. What comes with it is the
// beginning of its direction.
func (f *flow) readStatus(w *workspace) (event, error) {
	src, dir := &f.side[dialed], &f.dir[dialed]
	for src.readable {
		n, err := dir.read(src, w.buf)
		status, known := src.frames.in.Status()
		switch {
		case known:
			return f.answered(w, status, w.buf[:n], err)
		case src.frames.in.Over() == wire.Bye:
			return declined, ErrBye
		case errors.Is(err, wire.ErrFrame):
			return refused, err
		case errors.Is(err, errLinkEnded):
			return dialedBroke, errEndsUnanswered
		case err != nil:
			src.broken = true
			return dialedBroke, err
		}
	}
	return nothing, nil
}

// answered acts on the status. With it came the first bytes of its direction, or the error
// of the link.
func (f *flow) answered(w *workspace, status wire.Status, first []byte, broken error) (event, error) {
	switch err := f.setup.onStatus(status, f.side[dialed].frames.in.Ban()); {
	case errors.Is(err, ErrUndelivered):
		return declined, err
	case err != nil:
		return refused, err
	}
	note(&f.meter.connected)
	if len(first) > 0 {
		f.dir[dialed].rest = bytes.Clone(first)
		f.meter.add(dialed, len(first))
	}
	f.active = w.now
	f.finishSetup(w)
	if broken != nil {
		return dialedBroke, broken
	}
	return nothing, nil
}
