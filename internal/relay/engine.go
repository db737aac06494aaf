package relay

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"

	"portredirector/internal/socket"
)

// Engine relays any number of pairs.
type Engine struct {
	life      *life
	listeners *listeners
	loops     []*loop
	next      atomic.Uint32 // the loop that gets the next flow
}

// New returns an engine whose loops run. Shutdown ends them.
func New(o Options) (*Engine, error) {
	v := newLife(o.Log)
	e := &Engine{life: v, listeners: &listeners{life: v}}
	n := o.Loops
	if n == 0 {
		n = max(1, runtime.GOMAXPROCS(0)-1)
	}
	for range n {
		l, err := newLoop(v, e.listeners, o)
		if err != nil {
			for _, l := range e.loops {
				l.close()
			}
			return nil, fmt.Errorf("start relay: %w", err)
		}
		e.loops = append(e.loops, l)
	}
	for _, l := range e.loops {
		go l.run()
	}
	return e, nil
}

// Accept has the loops accept from l until Shutdown. The engine owns l from then on.
// handle is called with each socket and the address of its other end. It owns the socket, is
// called on a loop, and must not block. Out of descriptors or memory the listener
// pauses, logs that once, and goes on by itself.
func (e *Engine) Accept(l *net.TCPListener, handle func(fd int, from netip.AddrPort)) error {
	fd, err := socket.Detach(l)
	if err != nil {
		return err
	}
	log := e.life.log.With(slog.String("listener", l.Addr().String()))
	e.listeners.add(&listener{fd: fd, handle: handle, pauses: backoff{log: log}})
	for _, l := range e.loops {
		l.post(cmdAddListeners)
	}
	return nil
}

// AcceptError returns the error for which some listener cannot accept, or nil if all can.
func (e *Engine) AcceptError() error {
	for _, n := range e.listeners.list() {
		if err := n.pauses.err(); err != nil {
			return err
		}
	}
	return nil
}

// Relay takes over both sockets of p and returns at once. On an engine that
// is shut down the pair is reset and ends as Cut.
func (e *Engine) Relay(p Pair) {
	if !e.life.enter() {
		socket.Reset(p.Accepted)
		socket.Reset(p.Dialed)
		if p.OnFree != nil {
			p.OnFree(-1, nil)
		}
		if p.Done != nil {
			p.Done(Result{End: Cut})
		}
		return
	}
	e.life.pairs.Add(1)
	l := e.nextLoop()
	l.addPair(&p)
	e.cutLate(l)
}

// ReadPreface takes over an accepted socket that has to say first what it wants. On an
// engine that is shut down it is reset.
func (e *Engine) ReadPreface(p Preface) Pending {
	if !e.life.enter() {
		socket.Reset(p.Accepted)
		p.OnError(ErrCut)
		return Pending{}
	}
	l := e.nextLoop()
	f := l.addPreface(&p)
	e.cutLate(l)
	return Pending{loop: l, flow: f}
}

// Leave takes over a link whose exchange this end has ended, until it is free. On an engine
// that is shut down it is reset.
func (e *Engine) Leave(v Leaving) Pending {
	if !e.life.enter() {
		socket.Reset(v.Accepted)
		v.OnFree(-1, nil)
		return Pending{}
	}
	l := e.nextLoop()
	f := l.addLeaving(&v)
	e.cutLate(l)
	return Pending{loop: l, flow: f}
}

// Pending is a preface or a Leaving under way.
type Pending struct {
	loop *loop
	flow *flow
}

// Expire ends a preface: OnIdle gets its socket if it has said nothing, else it is reset.
// The link of a Leaving is reset. Expire has no effect on one that is complete.
func (p Pending) Expire() {
	if p.loop != nil {
		p.loop.postCall(func() { p.loop.finish(p.flow, expired, nil) })
	}
}

// nextLoop returns the loops by turns.
func (e *Engine) nextLoop() *loop {
	return e.loops[e.next.Add(1)%uint32(len(e.loops))]
}

// cutLate has a loop cut a flow that was added after all others were cut.
func (e *Engine) cutLate(l *loop) {
	if e.life.ctx.Err() != nil {
		l.post(cmdCut)
	}
}

// Go runs f, which may block, on a goroutine of its own. Shutdown waits for it, and
// cancels ctx when its deadline expires. On an engine that is shut down ctx is canceled.
func (e *Engine) Go(f func(ctx context.Context)) {
	if !e.life.enter() {
		f(e.life.ctx)
		return
	}
	e.life.start(f)
}

// Len returns the number of live pairs.
func (e *Engine) Len() int { return int(e.life.pairs.Load()) }

// Draining reports whether Shutdown was called.
func (e *Engine) Draining() bool { return e.life.draining() }

// Retired reports whether Retire or Shutdown was called.
func (e *Engine) Retired() bool { return e.life.retired() }

// OnDrain calls f on a goroutine of its own once Shutdown is called, unless stop was
// called before.
func (e *Engine) OnDrain(f func()) (stop func() bool) { return context.AfterFunc(e.life.drains, f) }
