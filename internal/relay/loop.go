package relay

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A loop relays its share of the pairs on one goroutine, with one epoll
// instance. All sockets are edge-triggered from the start, so that a pair costs
// two epoll_ctl(2) in its life, and one more for an accepted socket that does not
// take what is written at once.
//
// A loop keeps one of the scheduler's processors (GOMAXPROCS) as long as it has
// something to do, so there must be one more for everybody else. To wait in the
// runtime's own poller instead was tried, and halved the rate of an echo.
type loop struct {
	engine *Engine
	epoll  int
	wake   int           // eventfd(2): there are orders
	orders atomic.Uint32 // of others to this loop
	opts   Options
	start  time.Time

	awaiting atomic.Int32 // flows that must be open in time

	mu       sync.Mutex
	flows    []*flow // by the number in the event, nil if free; guarded by mu
	free     []int32 // free numbers; guarded by mu
	retiring []*flow // that are to be retired; guarded by mu

	// The rest is the loop's own.
	listeners []*listener // by -2 - the number in the event
	called    []int       // those to which somebody has come
	paused    []int       // those that pause
	deaf      bool        // it accepts no more
	ready     []*flow     // flows that have something to do
	freed     []int32     // numbers to be freed after this round
	suspects  bool        // there may be sides that have yet to acknowledge something
	pipes     pipes
	buf       []byte        // of one read
	now       int64         // what clock said at the start of this round
	stopped   chan struct{} // closed when the loop has ended
}

// Orders to a loop.
const (
	orderListen = 1 << iota // take the listeners that are new
	orderDeafen             // accept no more
	orderHurry              // bound the openings
	orderRetire             // wait no longer for some that are silent
	orderCut                // cut all pairs
	orderStop               // end
)

// wakeNumber is the number in the event of the eventfd. Listeners have the
// numbers below it, flows those from 0 on.
const wakeNumber = -1

// scratch is the length of a loop's buffer.
const scratch = 64 << 10

// tick is how often a loop looks for time-outs, where there are any.
const tick = time.Second

func startLoops(e *Engine, o Options) ([]*loop, error) {
	n := o.Loops
	if n == 0 {
		n = max(1, runtime.GOMAXPROCS(0)-1)
	}
	var loops []*loop
	for range n {
		l, err := newLoop(e, o)
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

func newLoop(e *Engine, o Options) (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	l := &loop{
		engine: e, epoll: epoll, wake: -1, opts: o,
		buf: make([]byte, scratch), start: time.Now(), stopped: make(chan struct{}),
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		l.close()
		return nil, os.NewSyscallError("eventfd", err)
	}
	if err := l.control(l.wake, unix.EPOLLIN, wakeNumber, 0); err != nil {
		l.close()
		return nil, err
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

// run is the loop.
func (l *loop) run() {
	defer close(l.stopped)
	defer l.close()
	var events [256]unix.EpollEvent
	lastTick, lastLook := l.now, l.now
	for {
		n := l.wait(events[:])
		l.now = l.clock()
		l.note(events[:n])
		l.turn()
		if l.timed() && l.now-lastTick >= tick.Milliseconds() {
			lastTick = l.now
			l.endLate()
		}
		if l.suspects && l.now-lastLook >= l.lookEvery().Milliseconds() {
			lastLook = l.now
			l.lookForDead()
		}
		if len(l.paused) > 0 {
			l.resume()
		}
		if o := l.orders.Swap(0); o != 0 && !l.obey(o) {
			return
		}
		l.release()
	}
}

// obey carries out orders. It returns false for the last.
func (l *loop) obey(o uint32) bool {
	if o&orderListen != 0 {
		l.takeListeners()
	}
	if o&orderDeafen != 0 {
		l.deafen()
	}
	if o&orderHurry != 0 {
		l.hurry()
	}
	if o&orderRetire != 0 {
		l.retireAll()
	}
	if o&orderCut != 0 {
		for _, f := range l.all() {
			l.end(f, Cut, ErrCut)
		}
	}
	return o&orderStop == 0
}

// wait waits for events, in two steps.
//
// To the scheduler the first is a goroutine that computes: it takes the processor
// from none that is in an ordinary system call, and need not look at it every 20
// µs (retake and sysmon in the runtime's proc.go), which would take a tenth of
// the time of a busy loop. Whoever waits for this goroutine to stop, and after 10 ms
// sysmon in any case, interrupts it by a signal, by which epoll_wait(2) ends. Then
// there is not much to do, and the second step gives the processor away.
func (l *loop) wait(events []unix.EpollEvent) int {
	patience := l.patience()
	if n := pollEvents(l.epoll, events, patience != 0 && signalled); n > 0 || patience == 0 {
		return n
	}
	n, err := unix.EpollWait(l.epoll, events, patience)
	if err != nil && err != unix.EINTR {
		panic(fmt.Sprintf("epoll_wait: %v", err)) // our own descriptor is broken
	}
	return max(n, 0)
}

// signalled is whether the scheduler interrupts goroutines by signals, as it does
// unless it was told not to.
var signalled = !strings.Contains(os.Getenv("GODEBUG"), "asyncpreemptoff=1")

// clock is the loop's clock: milliseconds, monotonic.
func (l *loop) clock() int64 { return time.Since(l.start).Milliseconds() }

// timed reports whether there are time-outs to look for.
func (l *loop) timed() bool {
	return l.opts.IdleTimeout > 0 || l.opts.HalfCloseTimeout > 0 || l.awaiting.Load() > 0
}

// patience is how long to wait for events, in ms: at most a tick, because those
// who add a flow with a time-out do not wake the loop.
func (l *loop) patience() int {
	patience := tick
	switch {
	case len(l.ready) > 0:
		patience = 0
	case len(l.paused) > 0:
		patience = minPause
	case l.suspects:
		patience = min(tick, l.lookEvery())
	}
	return int(patience / time.Millisecond)
}

// note tells the flows of their events and lines them up, and accepts.
func (l *loop) note(events []unix.EpollEvent) {
	l.mu.Lock()
	for i := range events {
		ev := &events[i]
		switch {
		case ev.Fd == wakeNumber:
			var b [8]byte
			_, _ = unix.Read(l.wake, b[:])
		case ev.Fd < wakeNumber:
			l.called = append(l.called, int(wakeNumber-1-ev.Fd))
		default:
			if f := l.flows[ev.Fd]; f != nil {
				f.side[ev.Pad].note(ev.Events)
				l.lineUp(f)
			}
		}
	}
	l.mu.Unlock()
	for _, i := range l.called {
		l.accept(i)
	}
	l.called = l.called[:0]
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
