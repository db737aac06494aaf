package relay

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A loop relays its share of the pairs on one goroutine, with one epoll
// instance. All sockets are edge-triggered for everything from the start, so
// that a pair costs two epoll_ctl(2) in its life.
//
// A loop waits inside epoll_wait(2), as in any blocking system call: the
// scheduler gives its processor to other goroutines when they need it. More
// processors than there are (GOMAXPROCS) were tried for the loops' sake, and
// made new connections and echoes slower.
type loop struct {
	epoll  int
	wake   int           // eventfd(2): there are orders
	orders atomic.Uint32 // of others to this loop
	opts   Options
	start  time.Time

	awaiting atomic.Int32 // flows whose answer must come in time

	mu    sync.Mutex
	flows []*flow // by the number in the event, nil if free; guarded by mu
	free  []int32 // free numbers; guarded by mu

	// The rest is the loop's own.
	ready    []*flow // flows that have something to do
	freed    []int32 // numbers to be freed after this round
	suspects bool    // there may be sides that have yet to acknowledge something
	pipes    pipes
	buf      []byte        // of one read
	now      int64         // what clock said at the start of this round
	stopped  chan struct{} // closed when the loop has ended
}

// Orders to a loop.
const (
	orderCut  = 1 << iota // cut all pairs
	orderStop             // end
)

// wakeNumber is the number in the event of the eventfd.
const wakeNumber = -1

// scratch is the length of a loop's buffer.
const scratch = 64 << 10

// tick is how often a loop looks for time-outs, where there are any.
const tick = time.Second

func startLoops(o Options) ([]*loop, error) {
	n := o.Loops
	if n == 0 {
		n = runtime.GOMAXPROCS(0)
	}
	var loops []*loop
	for range n {
		l, err := newLoop(o)
		if err != nil {
			for _, l := range loops {
				l.close()
			}
			return nil, err
		}
		loops = append(loops, l)
	}
	for _, l := range loops {
		go l.run()
	}
	return loops, nil
}

func newLoop(o Options) (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	l := &loop{epoll: epoll, wake: -1, opts: o, buf: make([]byte, scratch), start: time.Now(), stopped: make(chan struct{})}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		l.close()
		return nil, os.NewSyscallError("eventfd", err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: wakeNumber}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, l.wake, &ev); err != nil {
		l.close()
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	return l, nil
}

func (l *loop) close() {
	_ = unix.Close(l.epoll)
	if l.wake >= 0 {
		_ = unix.Close(l.wake)
	}
	l.pipes.close()
}

// order tells the loop to do something.
func (l *loop) order(o uint32) {
	l.orders.Or(o)
	_, _ = unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// relay adds a pair to the loop. The events that follow at once are what
// tells the loop.
func (l *loop) relay(p Pair) *Meter {
	a, err := takeOver(p.Accepted)
	if err != nil {
		return refuse(p, Result{End: Failed, Err: err})
	}
	d, err := takeOver(p.Dialled)
	if err != nil {
		closeSocket(a, true)
		_ = p.Dialled.SetLinger(0)
		_ = p.Dialled.Close()
		p.Done(Result{End: Failed, Err: err})
		return new(Meter)
	}
	f := &flow{done: p.Done, answer: p.Answer, active: l.clock()}
	if p.Answer != nil && p.AnswerTimeout > 0 {
		f.answerBy = f.active + p.AnswerTimeout.Milliseconds() + 1
		l.awaiting.Add(1)
	}
	f.side[accepted].fd, f.side[dialled].fd = a, d
	f.side[accepted].writable, f.side[dialled].writable = true, true
	if err := l.add(f); err != nil {
		f.answered(l)
		f.close(l, true)
		p.Done(Result{End: Failed, Err: err})
	}
	return &f.Meter
}

// takeOver makes a socket the engine's own: out of the runtime's poller, which
// would be woken at every byte, and without what package net keeps for it.
func takeOver(c *net.TCPConn) (fd int, err error) {
	defer func() {
		if err != nil {
			return
		}
		_ = c.Close()
	}()
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	if cerr := raw.Control(func(s uintptr) {
		// Urgent data goes on as what it is to nearly everybody, a byte among
		// others (RFC 6093).
		_ = unix.SetsockoptInt(int(s), unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
		fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0)
	}); cerr != nil {
		return -1, cerr
	}
	return fd, os.NewSyscallError("dup", err)
}

// add gives the flow a number and its sockets to epoll. The lock keeps the
// loop from acting on the first before the second is there.
func (l *loop) add(f *flow) error {
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
	for s := range f.side {
		ev := unix.EpollEvent{
			Events: unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&(1<<32-1),
			Fd:     f.number, Pad: int32(s),
		}
		if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, f.side[s].fd, &ev); err != nil {
			l.flows[f.number] = nil
			l.free = append(l.free, f.number)
			return os.NewSyscallError("epoll_ctl", err)
		}
	}
	return nil
}

// run is the loop.
func (l *loop) run() {
	defer close(l.stopped)
	defer l.close()
	var events [256]unix.EpollEvent
	lastTick, lastLook := l.now, l.now
	for {
		n, err := unix.EpollWait(l.epoll, events[:], l.patience())
		if err != nil && err != unix.EINTR {
			panic(fmt.Sprintf("epoll_wait: %v", err)) // our own descriptor is broken
		}
		l.now = l.clock()
		l.note(events[:max(n, 0)])
		l.turn()
		if l.timed() && l.now-lastTick >= tick.Milliseconds() {
			lastTick = l.now
			l.endLate()
		}
		if l.suspects && l.now-lastLook >= l.lookEvery().Milliseconds() {
			lastLook = l.now
			l.lookForDead()
		}
		if o := l.orders.Swap(0); o != 0 {
			if o&orderCut != 0 {
				l.cut()
			}
			if o&orderStop != 0 {
				return
			}
		}
		l.release()
	}
}

// clock is the loop's clock: milliseconds, monotonic.
func (l *loop) clock() int64 { return time.Since(l.start).Milliseconds() }

// timed reports whether there are time-outs to look for.
func (l *loop) timed() bool {
	return l.opts.IdleTimeout > 0 || l.opts.HalfCloseTimeout > 0 || l.awaiting.Load() > 0
}

// patience is how long to wait for events, in ms.
func (l *loop) patience() int {
	switch {
	case len(l.ready) > 0:
		return 0
	case l.suspects && l.timed():
		return int(min(tick, l.lookEvery()) / time.Millisecond)
	case l.suspects:
		return int(l.lookEvery() / time.Millisecond)
	case l.timed():
		return int(tick / time.Millisecond)
	}
	return -1
}

// note tells the flows of their events and lines them up.
func (l *loop) note(events []unix.EpollEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range events {
		ev := &events[i]
		if ev.Fd == wakeNumber {
			var b [8]byte
			_, _ = unix.Read(l.wake, b[:])
			continue
		}
		if f := l.flows[ev.Fd]; f != nil {
			f.side[ev.Pad].note(ev.Events)
			l.lineUp(f)
		}
	}
}

// lineUp puts a flow among those that have something to do.
func (l *loop) lineUp(f *flow) {
	if !f.queued {
		f.queued = true
		l.ready = append(l.ready, f)
	}
}

// turn lets every flow in line move on once.
func (l *loop) turn() {
	line := l.ready
	l.ready = nil
	for i, f := range line {
		line[i] = nil
		f.queued = false
		if more := l.step(f); more {
			l.lineUp(f)
		}
	}
	if l.ready == nil {
		l.ready = line[:0]
	}
}

// step moves one flow on. A bug in it ends this one flow.
func (l *loop) step(f *flow) (more bool) {
	defer func() {
		if v := recover(); v != nil {
			l.end(f, Failed, fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
			more = false
		}
	}()
	return f.step(l)
}

// end closes the flow's sockets, by RST if end is not Finished, and tells its
// owner.
func (l *loop) end(f *flow, end End, err error) {
	if f.ended {
		return
	}
	f.ended = true
	f.answered(l)
	l.mu.Lock()
	l.flows[f.number] = nil
	l.mu.Unlock()
	l.freed = append(l.freed, f.number)
	f.close(l, end != Finished)
	f.done(Result{Up: f.Up(), Down: f.Down(), End: end, Err: err})
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

func (l *loop) cut() {
	for _, f := range l.all() {
		l.end(f, Cut, nil)
	}
}

// endLate ends the flows whose time is over.
func (l *loop) endLate() {
	for _, f := range l.all() {
		if f.answerBy > 0 && l.now >= f.answerBy {
			l.end(f, Refused, ErrNoAnswer)
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

// undelivered reports whether the other end of a socket has yet to acknowledge
// payload. Such a socket is kept, though there is nothing more to do for it:
// as long as its pair lives, a drain is not over, and what brings the
// acknowledgements back is not taken away. One byte is the FIN (tcp(7),
// SIOCOUTQ).
func undelivered(fd int) bool {
	n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	return err == nil && n > 1
}

// closeSocket closes a socket, by RST if so asked: SO_LINGER of zero makes
// close(2) send one and drop what is unsent (socket(7)).
func closeSocket(fd int, reset bool) {
	if reset {
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	_ = unix.Close(fd)
}
