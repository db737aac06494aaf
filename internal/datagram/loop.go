package datagram

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/poll"
	"portredirector/internal/relay"
)

// loop serves its share of the hubs and flows on one goroutine, with one epoll instance. Links call it
// from other goroutines, so a lock guards all of it.
type loop struct {
	end     end
	log     *slog.Logger
	poll    *poll.Poller
	index   int
	stopped chan struct{} // closed when the loop has ended
	stop    atomic.Bool

	mu      sync.Mutex
	table   table    // guarded by mu
	slots   []source // by number of their events; guarded by mu
	free    []int32  // guarded by mu
	hubs    []*hub   // guarded by mu
	dirty   []*hub   // hubs with queued answers; guarded by mu
	now     int64    // the time of this round; guarded by mu
	in      *inbox   // guarded by mu
	out     batch    // guarded by mu
	round   uint32   // counts batches from hubs; guarded by mu
	touched []*flow  // flows with datagrams in this round; guarded by mu
	nexts   [batchSize]int8
	after   [stages]time.Duration // silence that ends a flow; guarded by mu
	ids     uint32                // guarded by mu
}

// source handles the events of a descriptor.
type source interface {
	// ready handles an event. The loop's lock is held.
	ready(l *loop)
}

// end is a client or a server. The loop's lock is held in all calls.
type end interface {
	// arrived handles n datagrams that a hub has received into the first slots.
	arrived(h *hub, n int)
	// failed handles an error of a flow's socket.
	failed(f *flow, errno unix.Errno)
	// expired ends a silent flow.
	expired(f *flow)
	// cut ends a flow that an operator has cut.
	cut(f *flow)
	// removed removes an ended flow from its link.
	removed(f *flow)
	describer
}

func newLoop(e end, index int, after [stages]time.Duration, log *slog.Logger) (*loop, error) {
	p, err := poll.New()
	if err != nil {
		return nil, err
	}
	return &loop{end: e, log: log, poll: p, index: index, stopped: make(chan struct{}), in: newInbox(), after: after, now: relay.Now()}, nil
}

// tick is the interval at which flows expire.
const tick = time.Second

// run serves events until the loop is stopped.
func (l *loop) run() {
	defer close(l.stopped)
	defer l.poll.Close()
	var events [64]unix.EpollEvent
	for last := relay.Now(); ; {
		n := l.poll.Wait(events[:], tick)
		if l.stop.Load() {
			return
		}
		l.serve(events[:n])
		if now := relay.Now(); now-last >= int64(tick) {
			last = now
			l.expire()
		}
	}
}

// serve handles the pending events. It logs a panic, and the loop goes on.
func (l *loop) serve(events []unix.EpollEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() {
		if v := recover(); v != nil {
			l.log.Error("datagrams were lost", slog.String("error", fmt.Sprintf("panic: %v\n%s", v, debug.Stack())))
			l.in.used = 0
		}
	}()
	l.now = relay.Now()
	for i := range events {
		if events[i].Fd == poll.WakeNumber {
			l.poll.Interrupted()
			continue
		}
		if s := l.slots[events[i].Fd]; s != nil {
			s.ready(l)
		}
	}
	l.flush()
}

// flush sends all queued answers, and frees the inbox.
func (l *loop) flush() {
	for _, h := range l.dirty {
		h.flush()
	}
	l.dirty = l.dirty[:0]
	l.in.used = 0
}

// register assigns a number to a source and adds its descriptor to epoll.
func (l *loop) register(s source, fd int) (number int32, err error) {
	if n := len(l.free) - 1; n >= 0 {
		number = l.free[n]
		l.free = l.free[:n]
		l.slots[number] = s
	} else {
		number = int32(len(l.slots)) //nolint:gosec // bounded by the descriptors
		l.slots = append(l.slots, s)
	}
	if err := l.poll.Add(fd, unix.EPOLLIN, number, 0); err != nil {
		l.unregister(number)
		return -1, err
	}
	return number, nil
}

// unregister frees a number.
func (l *loop) unregister(number int32) {
	if number >= 0 {
		l.slots[number] = nil
		l.free = append(l.free, number)
	}
}

// collect adds slot i of the inbox to the flow's chain of this round.
func (l *loop) collect(f *flow, i int) {
	slot := int8(i) //nolint:gosec // below batchSize
	l.nexts[slot] = -1
	if f.group.round != l.round {
		f.group = chain{l.round, slot, slot}
		l.touched = append(l.touched, f)
		return
	}
	l.nexts[f.group.last] = slot
	f.group.last = slot
}

// expire ends the flows that were silent for too long or cut by an operator.
func (l *loop) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = relay.Now()
	for _, f := range l.table.byKey {
		if f.record.Meter.IsCut() {
			l.end.cut(f)
		}
	}
	for f := l.table.expired(l.now, l.after); f != nil; f = l.table.expired(l.now, l.after) {
		l.end.expired(f)
	}
}
