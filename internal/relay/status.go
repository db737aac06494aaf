package relay

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/socket"
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
		return acceptedBroke, os.NewSyscallError("recv", socket.Error(a.fd))
	case d.failed:
		return f.failConnect(w, socket.Error(d.fd))
	case !d.writable:
		return nothing, nil
	}
	if !a.watched {
		if err := a.watch(w.poll, f.number, accepted, watched); err != nil {
			return failed, err
		}
		a.writable = true
	}
	w.connected(f)
	a.readable = true // perhaps
	f.active = w.now
	if f.setup.onStatus == nil {
		f.finishSetup(w)
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

// readStatus reads the one byte that is not relayed, when it is there. What
// comes with it is the rest of its direction.
func (f *flow) readStatus(w *workspace) (event, error) {
	src := &f.side[dialed]
	if !src.readable {
		return nothing, nil
	}
	n, err := src.read(w.buf)
	switch {
	case err != nil:
		src.broken = true
		return dialedBroke, err
	case n == 0 && !src.readable:
		return nothing, nil
	case n == 0:
		return dialedBroke, errEndsUnanswered
	}
	switch err := f.setup.onStatus(w.buf[0]); {
	case errors.Is(err, ErrUndelivered):
		return declined, err
	case err != nil:
		return refused, err
	}
	if n > 1 {
		f.dir[dialed].rest = append([]byte(nil), w.buf[1:n]...)
	}
	f.active = w.now
	f.finishSetup(w)
	return nothing, nil
}
