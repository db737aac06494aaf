package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/socket"
)

// Opening is an accepted socket that has to say first what it wants.
type Opening struct {
	Accepted int // the descriptor, which the engine owns

	// Hear is given what the socket has said so far, whenever there is more, and
	// says what is next. It must keep no part of it. An error resets the socket.
	Hear func(said []byte) (Next, error)
	// Timeout is how long that may take; 0 is for ever.
	Timeout time.Duration
	// Gone is told of the error of a socket that was reset: Hear's, ErrTimeout,
	// io.EOF if it said nothing, or ErrCut.
	Gone func(error)
}

// Next is what follows on an opening. The zero value is to wait for more.
type Next struct {
	// Pair is to be relayed; its Accepted is the socket of the opening.
	Pair *Pair
	// Release, if set, is given the socket, on a goroutine of its own; ctx ends
	// when what outlives a Shutdown is cut.
	Release func(ctx context.Context, fd int)
}

// Errors of pairs and openings that did not come about.
var (
	ErrTimeout        = errors.New("timeout")
	ErrNoAnswer       = errors.New("no answer in time")
	errEndsUnanswered = errors.New("ended before its answer")
)

// answerGrace is for an answer that is on its way when its time is over: who is to
// answer may have just as long for it, and looks at its clock once a tick, too.
const answerGrace = 2 * tick

// stage is how far a flow is from being open.
type stage uint8

const (
	hearing    stage = iota // its accepted socket has to say what it wants
	connecting              // its dialled socket is being connected
	answering               // its dialled socket has to answer
)

// opening is what a flow needs until it is open.
type opening struct {
	stage stage
	by    int64 // when it is too late, ms on the loop's clock; 0 is never

	timeout time.Duration // of connecting, and again of the answer

	hear func(said []byte) (Next, error)
	said []byte // what it was given already
	gone func(error)

	answer    func(byte) error // nil if there is nothing to be answered
	unreached func(ctx context.Context, fd int, err error)
}

// open moves the opening on. It reports whether bytes may go up by now.
func (f *flow) open(l *loop) bool {
	switch f.opening.stage {
	case hearing:
		f.hear(l)
		return false
	case connecting:
		if !f.connected(l) {
			return false
		}
	case answering:
	}
	if f.opening == nil {
		return true
	}
	// The answer comes before the reset that may follow it.
	if err := f.readAnswer(l); err != nil {
		l.end(f, Refused, err)
		return false
	}
	return true
}

// hear lets the accepted socket say what it wants.
func (f *flow) hear(l *loop) {
	s, o := &f.side[accepted], f.opening
	for s.readable || s.failed {
		n, err := s.read(l.buf)
		switch {
		case err != nil:
			l.end(f, Failed, err)
			return
		case n == 0 && s.readable && len(o.said) == 0:
			l.end(f, Failed, io.EOF)
			return
		case n == 0 && s.readable:
			l.end(f, Failed, io.ErrUnexpectedEOF)
			return
		case n == 0:
			return
		}
		said := l.buf[:n]
		if len(o.said) > 0 {
			said = append(o.said, said...)
		}
		next, err := o.hear(said)
		switch {
		case err != nil:
			l.end(f, Failed, err)
			return
		case next.Release != nil:
			l.handOver(f, next.Release)
			return
		case next.Pair != nil:
			l.become(f, next.Pair)
			if err := l.watch(f, dialled, watched|writable); err != nil {
				l.end(f, Failed, err)
			}
			return
		case len(o.said) > 0:
			o.said = said
		default:
			o.said = bytes.Clone(said)
		}
	}
}

// connected reports whether the dialled socket is connected, and has the accepted
// one watched from then on: what comes there earlier has to wait anyway.
func (f *flow) connected(l *loop) bool {
	a, d := &f.side[accepted], &f.side[dialled]
	switch {
	case a.failed:
		a.failed = false
		l.end(f, AcceptedReset, os.NewSyscallError("recv", socket.Error(a.fd)))
		return false
	case d.failed:
		f.notConnected(l, socket.Error(d.fd))
		return false
	case !d.writable:
		return false
	}
	if !a.watched {
		if err := l.watch(f, accepted, watched); err != nil {
			l.end(f, Failed, err)
			return false
		}
		a.writable = true
	}
	a.readable = true // perhaps
	f.active = l.now
	if f.opening.answer == nil {
		f.opened(l)
		return true
	}
	f.opening.stage = answering
	if timeout := f.opening.timeout; timeout > 0 {
		l.limit(f, timeout+answerGrace)
	}
	return true
}

// notConnected ends a flow whose dialled socket failed.
func (f *flow) notConnected(l *loop, err error) {
	if !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
		l.unreached(f, os.NewSyscallError("connect", err))
		return
	}
	// It was connected before (tcp_reset in the kernel's net/ipv4/tcp_input.c).
	f.side[dialled].failed, f.side[dialled].broken = false, true
	if f.opening.answer != nil {
		if aerr := f.readAnswer(l); aerr != nil {
			l.end(f, Refused, aerr)
			return
		}
	}
	l.end(f, resetBy(dialled), os.NewSyscallError("recv", err))
}

// readAnswer takes in the one byte that is not relayed, when it is there. What
// comes with it is the rest of its direction.
func (f *flow) readAnswer(l *loop) error {
	src := &f.side[dialled]
	if !src.readable {
		return nil
	}
	n, err := src.read(l.buf)
	switch {
	case err != nil:
		return err
	case n == 0 && !src.readable:
		return nil
	case n == 0:
		return errEndsUnanswered
	}
	if err := f.opening.answer(l.buf[0]); err != nil {
		return err
	}
	if n > 1 {
		f.dir[dialled].rest = append([]byte(nil), l.buf[1:n]...)
	}
	f.active = l.now
	f.opened(l)
	return nil
}

// opened notes that nothing is waited for any more.
func (f *flow) opened(l *loop) {
	if f.opening != nil && f.opening.by > 0 {
		l.awaiting.Add(-1)
	}
	f.opening = nil
}

// late ends an opening that takes too long.
func (l *loop) late(f *flow) {
	switch f.opening.stage {
	case hearing:
		l.end(f, Failed, ErrTimeout)
	case connecting:
		l.unreached(f, ErrTimeout)
	case answering:
		l.end(f, Refused, ErrNoAnswer)
	}
}

// unreached ends a flow whose dialled socket could not be connected: its owner
// gets the accepted socket back, if that is what they want.
func (l *loop) unreached(f *flow, err error) {
	give := f.opening.unreached
	if give == nil {
		l.end(f, Refused, err)
		return
	}
	l.handOver(f, func(ctx context.Context, fd int) { give(ctx, fd, err) })
}
