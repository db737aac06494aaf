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

// Preface is an accepted socket that has to say first what it wants.
type Preface struct {
	Accepted int   // the descriptor, which the engine owns
	Layer    Layer // between it and its bytes; nil is nothing

	// OnData is given what the socket has said so far, whenever there is more, and
	// says what is next. It must keep no part of it. An error resets the socket.
	OnData func(said []byte) (Next, error)
	// IdleTimeout is how long it may say nothing, and Timeout how long the rest may take from
	// its first byte on; 0 is for ever.
	IdleTimeout, Timeout time.Duration
	// OnIdle is given the socket if it has said nothing for so long, or when it is retired,
	// or when there is a Shutdown. It is called on a goroutine of its own; ctx ends when what
	// outlives a Shutdown is cut.
	OnIdle func(ctx context.Context, fd int)
	// OnError is told of the error of a socket that was reset: Hear's, ErrTimeout,
	// ErrRetired, io.EOF if it said nothing, or ErrCut.
	OnError func(error)
}

// Pending is an opening under way.
type Pending struct {
	loop *loop
	flow *flow
}

// Expire waits no longer for an opening: if it has said nothing it is given to Silent, or
// else reset. It does nothing to one that has said all.
func (o Pending) Expire() {
	if o.loop != nil {
		o.loop.retire(o.flow)
	}
}

// Next is what follows on an opening. The zero value is to wait for more.
type Next struct {
	// Pair is to be relayed; its Accepted is the socket of the opening.
	Pair *Pair
	// HandOver, if set, is given the socket, on a goroutine of its own; ctx ends
	// when what outlives a Shutdown is cut.
	HandOver func(ctx context.Context, fd int)
}

// Errors of pairs and openings that did not come about.
var (
	ErrTimeout  = errors.New("timeout")
	ErrExpired  = errors.New("too many have not said what they want")
	ErrNoStatus = errors.New("no answer in time")
	// ErrUndelivered, from Pair.Answer, promises that no payload was delivered.
	ErrUndelivered    = errors.New("nothing was delivered")
	errEndsUnanswered = errors.New("ended before its answer")
)

// answerGrace is for an answer that is on its way when its time is over: who is to
// answer may have just as long for it, and looks at its clock once a tick, too.
const answerGrace = 2 * tick

// stage is how far a flow is from being open.
type stage uint8

const (
	hearing    stage = iota // its accepted socket has to say what it wants
	connecting              // its dialed socket is being connected
	answering               // its dialed socket has to answer
)

// opening is what a flow needs until it is open.
type opening struct {
	stage stage
	by    int64 // when it is too late, ms on the loop's clock; 0 is never

	timeout time.Duration // of hearing, once something was said, or of the answer

	hear   func(said []byte) (Next, error)
	said   []byte // what it was given already
	silent func(ctx context.Context, fd int)
	gone   func(error)

	answer      func(byte) error // nil if there is nothing to be answered
	hopeless    func() error     // nil if nobody knows
	undelivered func(ctx context.Context, u Undelivered)
	kept        []byte // for undelivered: what was read so far
}

// room is how much more may be read before the answer.
func (o *opening) room() int {
	if o == nil || o.undelivered == nil {
		return scratch
	}
	return MaxKept - len(o.kept)
}

// keep notes what was read before the answer.
func (o *opening) keep(b []byte) {
	if o != nil && o.undelivered != nil {
		o.kept = append(o.kept, b...)
	}
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
	return f.readAnswer(l)
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
		case next.HandOver != nil:
			l.handOver(f, next.HandOver)
			return
		case next.Pair != nil:
			l.engine.pairs.Add(1)
			l.become(f, next.Pair)
			if err := l.watch(f, dialed, watched|writable); err != nil {
				l.end(f, Failed, err)
			}
			return
		case len(o.said) > 0:
			o.said = said
		default:
			o.said = bytes.Clone(said)
			timeout := o.timeout
			if l.deaf {
				timeout = lastWords
			}
			l.limit(f, timeout)
		}
	}
}

// silent reports whether nothing was heard of the accepted socket so far.
func (f *flow) silent() bool {
	o := f.opening
	return !f.ended && o != nil && o.stage == hearing && len(o.said) == 0 && !f.side[accepted].readable
}

// connected reports whether the dialed socket is connected, and has the accepted
// one watched from then on: what comes there earlier has to wait anyway.
func (f *flow) connected(l *loop) bool {
	a, d := &f.side[accepted], &f.side[dialed]
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
	timeout := f.opening.timeout
	if timeout > 0 {
		timeout += answerGrace
	}
	l.limit(f, timeout)
	return true
}

// notConnected ends a flow whose dialed socket failed.
func (f *flow) notConnected(l *loop, err error) {
	if !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
		l.unreached(f, os.NewSyscallError("connect", err))
		return
	}
	// It was connected before (tcp_reset in the kernel's net/ipv4/tcp_input.c).
	f.side[dialed].failed, f.side[dialed].broken = false, true
	err = os.NewSyscallError("recv", err)
	if f.opening.stage = answering; f.opening.answer == nil || f.readAnswer(l) {
		f.broke(l, dialed, err)
	}
}

// readAnswer takes in the one byte that is not relayed, when it is there. What
// comes with it is the rest of its direction. It reports whether the flow lives on.
func (f *flow) readAnswer(l *loop) bool {
	src := &f.side[dialed]
	if !src.readable {
		return true
	}
	n, err := src.read(l.buf)
	switch {
	case err != nil:
		src.broken = true
		f.unanswered(l, err)
		return false
	case n == 0 && !src.readable:
		return true
	case n == 0:
		f.unanswered(l, errEndsUnanswered)
		return false
	}
	switch err := f.opening.answer(l.buf[0]); {
	case errors.Is(err, ErrUndelivered) && f.opening.undelivered != nil:
		l.giveBack(f, err)
		return false
	case err != nil:
		l.end(f, Refused, err)
		return false
	}
	if n > 1 {
		f.dir[dialed].rest = append([]byte(nil), l.buf[1:n]...)
	}
	f.active = l.now
	f.opened(l)
	return true
}

// broke ends a flow of which one side is broken.
func (f *flow) broke(l *loop, s int, err error) {
	if o := f.opening; s == dialed && o != nil && o.answer != nil && o.stage == answering {
		f.unanswered(l, err)
		return
	}
	// That it was connected is told also if it was at once reset: whoever gave us the
	// accepted socket would believe otherwise, and try again.
	if dir := &f.dir[dialed]; s == dialed && dir.extra > 0 {
		_, _ = f.side[accepted].write(dir.rest[:dir.extra])
	}
	l.end(f, resetBy(s), err)
}

// unanswered ends a flow that gets no answer. That nothing was delivered is sure
// only if nothing was written.
func (f *flow) unanswered(l *loop, err error) {
	if f.opening.undelivered != nil && f.meter.Up() == 0 {
		l.giveBack(f, err)
		return
	}
	l.end(f, Refused, err)
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
		if give := f.opening.silent; give != nil && f.silent() {
			l.handOver(f, give)
			return
		}
		l.end(f, Failed, ErrTimeout)
	case connecting:
		l.unreached(f, ErrTimeout)
	case answering:
		f.unanswered(l, ErrNoStatus)
	}
}

// abandon gives a flow back whose answer nobody hopes for any more, if nothing of its
// payload was written.
func (l *loop) abandon(f *flow) {
	o := f.opening
	if o.stage != answering || o.hopeless == nil || o.undelivered == nil || f.meter.Up() > 0 {
		return
	}
	if err := o.hopeless(); err != nil {
		l.giveBack(f, err)
	}
}

// unreached ends a flow whose dialed socket could not be connected.
func (l *loop) unreached(f *flow, err error) {
	if f.opening.undelivered == nil {
		l.end(f, Refused, err)
		return
	}
	l.giveBack(f, err)
}

// giveBack ends a flow and gives its accepted socket back.
func (l *loop) giveBack(f *flow, err error) {
	to := f.opening.undelivered
	u := Undelivered{Peeked: f.opening.kept, PeekedEOF: f.dir[accepted].eof, Err: err}
	l.engine.pairs.Add(-1)
	l.handOver(f, func(ctx context.Context, fd int) {
		u.Accepted = fd
		to(ctx, u)
	})
}
