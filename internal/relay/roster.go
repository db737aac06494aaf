package relay

import (
	"context"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/socket"
)

// How flows come to a loop, and how they go.

// control adds a descriptor to the epoll instance.
func (l *loop) control(fd int, events uint32, number, side int32) error {
	ev := unix.EpollEvent{Events: events, Fd: number, Pad: side}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &ev))
}

// What a loop is told of a socket: all but that a write may take something, unless
// that is waited for.
const (
	watched  = unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLRDHUP | unix.EPOLLET&(1<<32-1)
	writable = unix.EPOLLOUT
)

// watch has the loop told of what happens to a side of a flow.
func (l *loop) watch(f *flow, s int, events uint32) error {
	f.side[s].watched = true
	f.side[s].awaited = events&writable != 0
	return l.control(f.side[s].fd, events, f.number, int32(s))
}

// await has the loop told when a write to a side may take something again; from
// then on it always is.
func (l *loop) await(f *flow, s int) error {
	f.side[s].awaited = true
	ev := unix.EpollEvent{Events: watched | writable, Fd: f.number, Pad: int32(s)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, f.side[s].fd, &ev))
}

// add gives the flow a number, and has the loop told of the events of the side on
// which something will happen first. The events that follow are what tells the loop
// of the flow; the lock keeps it from acting on them before all is there.
func (l *loop) add(f *flow, first int, events uint32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.free) - 1; n >= 0 {
		f.number = l.free[n]
		l.free = l.free[:n]
		l.flows[f.number] = f
	} else {
		f.number = int32(len(l.flows))
		l.flows = append(l.flows, f)
	}
	err := l.watch(f, first, events)
	if err != nil {
		l.flows[f.number] = nil
		l.free = append(l.free, f.number)
	}
	return err
}

// relay adds a pair to the loop.
func (l *loop) relay(p *Pair) {
	f := &flow{active: l.clock()}
	f.side[accepted] = side{fd: p.Accepted, layer: p.AcceptedLayer}
	l.become(f, p)
	if err := l.add(f, dialed, watched|writable); err != nil {
		f.opened(l)
		f.close(l, true)
		l.engine.leave(p.Done, Result{End: Failed, Err: err})
	}
}

// listen adds an opening to the loop.
func (l *loop) listen(o Preface) *flow {
	f := &flow{opening: &opening{stage: hearing, hear: o.OnData, timeout: o.Timeout, silent: o.OnIdle, gone: o.OnError}, active: l.clock()}
	f.side[accepted] = side{fd: o.Accepted, layer: o.Layer, writable: true}
	f.side[dialed].fd = -1
	if l.engine.Draining() {
		o.IdleTimeout = longSilence
	}
	l.limit(f, o.IdleTimeout)
	if err := l.add(f, accepted, watched); err != nil {
		f.opened(l)
		f.close(l, true)
		l.engine.leaveOpening(o.OnError, err)
	}
	return f
}

// retire tells the loop to wait no longer for a flow that has said nothing.
func (l *loop) retire(f *flow) {
	l.mu.Lock()
	l.retiring = append(l.retiring, f)
	l.mu.Unlock()
	l.order(orderRetire)
}

// retireAll does that.
func (l *loop) retireAll() {
	l.mu.Lock()
	list := l.retiring
	l.retiring = nil
	l.mu.Unlock()
	for _, f := range list {
		switch {
		case f.silent():
			l.late(f)
		case !f.ended && f.opening != nil && f.opening.stage == hearing && len(f.opening.said) > 0:
			l.end(f, Failed, ErrExpired)
		}
	}
}

// limit bounds the time that the opening of a flow may take from now on.
func (l *loop) limit(f *flow, timeout time.Duration) {
	if f.opening.by > 0 {
		l.awaiting.Add(-1)
	}
	f.opening.by = 0
	if timeout > 0 {
		f.opening.by = l.clock() + timeout.Milliseconds() + 1
		l.awaiting.Add(1)
	}
}

// become makes a flow that of a pair: from now on its dialed socket is awaited.
func (l *loop) become(f *flow, p *Pair) {
	if f.opening == nil {
		f.opening = new(opening)
	}
	l.limit(f, p.ConnectTimeout)
	*f.opening = opening{
		stage: connecting, by: f.opening.by, timeout: p.StatusTimeout, answer: p.OnStatus, hopeless: p.Hopeless,
		undelivered: p.OnUndelivered, kept: slices.Clip(p.Peeked),
	}
	f.side[dialed] = side{fd: p.Dialed, layer: p.DialedLayer}
	f.meter, f.done = p.meter(), p.Done
	f.dir[accepted] = direction{rest: append(p.UpPrefix, p.Peeked...), extra: len(p.UpPrefix), eof: p.PeekedEOF}
	f.dir[dialed] = direction{rest: p.DownPrefix, extra: len(p.DownPrefix)}
}

// end closes the flow's sockets, by RST if end is not Finished, and tells its
// owner.
func (l *loop) end(f *flow, end End, err error) {
	if f.ended {
		return
	}
	o := f.opening
	l.forget(f)
	f.close(l, end != Finished)
	if o != nil && o.stage == hearing {
		l.engine.leaveOpening(o.gone, err)
		return
	}
	if end == Cut {
		err = nil
	}
	l.engine.leave(f.done, Result{Up: f.meter.Up(), Down: f.meter.Down(), End: end, Err: err})
}

// handOver ends the flow and gives its accepted socket away, to a goroutine that
// the engine waits for.
func (l *loop) handOver(f *flow, to func(ctx context.Context, fd int)) {
	fd := f.side[accepted].fd
	if f.side[accepted].watched {
		_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, fd, nil)
	}
	f.side[accepted].fd = -1
	l.forget(f)
	f.close(l, true)
	l.engine.goOn(func(ctx context.Context) { to(ctx, fd) })
}

// forget takes the flow out of the loop.
func (l *loop) forget(f *flow) {
	f.ended = true
	f.opened(l)
	l.mu.Lock()
	l.flows[f.number] = nil
	l.mu.Unlock()
	l.freed = append(l.freed, f.number)
}

// release makes the numbers of ended flows free: no event of this round can
// have them any more.
func (l *loop) release() {
	if len(l.freed) == 0 {
		return
	}
	l.mu.Lock()
	l.free = append(l.free, l.freed...)
	l.mu.Unlock()
	l.freed = l.freed[:0]
}

// all lists the live flows.
func (l *loop) all() []*flow {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []*flow
	for _, f := range l.flows {
		if f != nil {
			list = append(list, f)
		}
	}
	return list
}

// endLate ends the flows whose time is over.
func (l *loop) endLate() {
	for _, f := range l.all() {
		if f.opening != nil {
			if f.opening.by > 0 && l.now >= f.opening.by {
				l.late(f)
			} else {
				l.abandon(f)
			}
			continue
		}
		limit := l.opts.IdleTimeout
		if half := l.opts.HalfCloseTimeout; half > 0 && f.halfClosed() && (limit == 0 || half < limit) {
			limit = half
		}
		if limit > 0 && l.now-f.active >= limit.Milliseconds() {
			l.end(f, Idle, nil)
		}
	}
}

// undelivered reports whether the other end of a side has yet to acknowledge
// payload. Such a socket is kept, though there is nothing more to do for it:
// as long as its pair lives, a drain is not over, and what brings the
// acknowledgements back is not taken away. One byte is the FIN (tcp(7),
// SIOCOUTQ), which Close leaves to the kernel.
func (s *side) undelivered() bool {
	n, err := unix.IoctlGetInt(s.fd, unix.SIOCOUTQ)
	s.acked = err == nil && n == 0 && s.layer == nil // a layer's end may come before FIN
	return err == nil && n > 1
}

// close closes a side, by RST unless its pair has finished.
func (s *side) close(finished bool) {
	switch {
	case s.fd < 0:
	case s.broken || s.acked:
		socket.Release(s.fd)
	case finished:
		socket.Close(s.fd)
	default:
		socket.Reset(s.fd)
	}
}
