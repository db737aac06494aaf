package relay

import (
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/poll"
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
	workspace

	acceptor acceptor
	ready    []*flow       // flows that have something to do
	stopped  chan struct{} // closed when the loop has ended

	commands atomic.Uint32 // posted and not run yet
	mu       sync.Mutex
	calls    []func() // for cmdCall; guarded by mu
}

// tick is the interval at which a loop checks time-outs, if it has any.
const tick = time.Second

func newLoop(v *life, s *listeners, o Options) (*loop, error) {
	p, err := poll.New()
	if err != nil {
		return nil, err
	}
	return &loop{
		workspace: workspace{opts: o, life: v, poll: p, buf: make([]byte, bufferSize), start: time.Now()},
		acceptor:  acceptor{shared: s, poll: p}, stopped: make(chan struct{}),
	}, nil
}

func (l *loop) close() {
	l.poll.Close()
	l.pipes.close()
}

// run runs the loop until it is stopped.
func (l *loop) run() {
	defer close(l.stopped)
	defer l.close()
	var events [256]unix.EpollEvent
	lastTick, lastLook := l.now, l.now
	for {
		l.releaseHeld()
		n := l.poll.Wait(events[:], l.waitTime())
		l.now = l.clock()
		l.noteEvents(events[:n])
		l.acceptor.acceptAll()
		l.stepAll()
		if l.hasTimeouts() && l.now-lastTick >= tick.Milliseconds() {
			lastTick = l.now
			l.checkTimeouts()
		}
		if l.unacked && l.now-lastLook >= l.deadPathInterval().Milliseconds() {
			lastLook = l.now
			l.checkDeadPaths()
		}
		l.acceptor.resume()
		if c := l.commands.Swap(0); c != 0 && !l.runCommands(c) {
			return
		}
		l.flows.release()
	}
}

// waitTime returns how long to wait for events: at most a tick, because a goroutine that adds a
// flow with a time-out does not wake the loop.
func (l *loop) waitTime() time.Duration {
	switch {
	case len(l.ready) > 0:
		return 0
	case len(l.held) > 0:
		return l.held[0].left(l.now)
	case l.acceptor.pausing():
		return minPause
	case l.unacked:
		return min(tick, l.deadPathInterval())
	}
	return tick
}

// noteEvents records events in their flows and queues these.
func (l *loop) noteEvents(events []unix.EpollEvent) {
	l.flows.mu.Lock()
	defer l.flows.mu.Unlock()
	for i := range events {
		ev := &events[i]
		switch {
		case ev.Fd == poll.WakeNumber:
			l.poll.Interrupted()
		case ev.Fd < poll.WakeNumber:
			l.acceptor.note(ev.Fd)
		default:
			if f := l.flows.byNum[ev.Fd]; f != nil {
				f.side[ev.Pad].note(ev.Events)
				l.enqueue(f)
			}
		}
	}
}

// enqueue queues a flow that has something to do.
func (l *loop) enqueue(f *flow) {
	if !f.queued {
		f.queued = true
		l.ready = append(l.ready, f)
	}
}

// releaseHeld queues the flows whose status has been held for holdTime.
func (l *loop) releaseHeld() {
	n := 0
	for n < len(l.held) && l.held[n].left(l.now) == 0 {
		f := l.held[n].flow
		if f.dir[dialed].held {
			f.dir[dialed].held = false
			l.enqueue(f)
		}
		n++
	}
	l.held = slices.Delete(l.held, 0, n)
}

// stepAll lets every queued flow move on once.
func (l *loop) stepAll() {
	queue := l.ready
	l.ready = nil
	for i, f := range queue {
		queue[i] = nil
		f.queued = false
		if l.step(f) {
			l.enqueue(f)
		}
	}
	if l.ready == nil {
		l.ready = queue[:0]
	}
}

// step moves one flow on, and ends it if that is due. A panic ends this one flow.
func (l *loop) step(f *flow) (more bool) {
	if f.ended {
		return false
	}
	defer func() {
		if v := recover(); v != nil {
			l.finish(f, failed, fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
			more = false
		}
	}()
	more, ev, err := f.step(&l.workspace)
	l.finish(f, ev, err)
	return !f.ended && (more || ev != nothing) // a link may have to be read on
}

// addPair adds a pair. Another goroutine may call it.
func (l *loop) addPair(p *Pair) {
	f := &flow{loop: l, active: l.clock()}
	f.side[accepted] = newSide(p.Accepted, p.AcceptedLayer, true)
	f.startPair(&l.workspace, p)
	if err := l.flows.add(f, l.poll, dialed, watched|writable); err != nil {
		f.finishSetup(&l.workspace)
		f.close(&l.workspace, false)
		l.life.endPair(p.Done, Result{End: Failed, Err: err})
	}
}

// addPreface adds a preface. Another goroutine may call it.
func (l *loop) addPreface(p *Preface) *flow {
	if l.life.retired() {
		p.IdleTimeout = longSilence
	}
	f := &flow{loop: l, active: l.clock()}
	f.startPreface(&l.workspace, p)
	events := uint32(watched)
	if p.there() {
		events |= writable // so that there is an event at once
	}
	if err := l.flows.add(f, l.poll, accepted, events); err != nil {
		f.finishSetup(&l.workspace)
		f.close(&l.workspace, false)
		l.life.endPreface(p.OnError, err)
	}
	return f
}

// addLeaving adds a link that waits for the other end's terminator. Another goroutine may
// call it.
func (l *loop) addLeaving(v *Leaving) *flow {
	f := &flow{loop: l, active: l.clock()}
	f.side[accepted] = newSide(v.Accepted, v.Layer, true)
	f.side[accepted].readable = true // perhaps
	f.side[dialed].fd = -1
	f.meter = new(Meter)
	f.frame(accepted, false, v.Said, v.OnFree)
	f.side[accepted].ended = true
	f.startLeaving(&l.workspace)
	f.setup.onError = v.OnError
	if err := l.flows.add(f, l.poll, accepted, watched|writable); err != nil {
		f.finishSetup(&l.workspace)
		f.close(&l.workspace, false)
		l.life.live.Done()
	}
	return f
}
