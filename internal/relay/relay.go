// Package relay moves the bytes of a connection between its two sockets and
// carries over how each side closes.
//
// An [Engine] takes a [Pair]: the socket that was accepted and the socket
// that is dialed for it. From [Engine.Relay] on it owns both, closes both,
// and calls the pair's Done exactly once. The caller keeps no goroutine for
// it.
//
// What comes before is done on the same loops, so that a new connection wakes
// no other thread: [Engine.Accept] accepts, [Engine.ReadPreface] has an accepted socket
// say first what it wants, and a pair may be handed over while it is still being
// connected. All functions that the engine calls, but for those that say so, are
// called on a loop, where everybody else waits meanwhile: they must not block.
//
// Close semantics, the same in both directions, with layers and without:
//
//   - FIN is passed on as a half-close, after the last byte before it. The
//     other direction lives on for as long as it likes (RFC 9293, 3.6).
//   - RST is passed on as RST, also while a direction is half-closed and
//     nothing moves.
//   - No idle time-out unless asked for. A dead path ends by TCP keepalive or,
//     with something under way, by Options.DeadAfter, and counts as a reset.
//   - A pair lives until the other ends have acknowledged its last byte.
//
// # Layers
//
// A socket may have a [Layer] between it and its bytes, as TLS is. Such a pair is relayed
// by the same loops, but for splice(2), which moves bytes that nobody looks at.
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"portredirector/internal/socket"
)

// Pair is one connection to relay. "Up" is the way from the accepted socket
// to the dialed one: on the client and on the server alike that is the way
// from the peer to the service.
type Pair struct {
	Accepted int // descriptors of TCP sockets that do not wait, see package socket
	Dialed   int // its connect(2) may be under way
	// AcceptedLayer and DialedLayer are between them and their bytes; nil is nothing.
	AcceptedLayer, DialedLayer Layer

	UpPrefix   []byte // goes up before anything else
	Peeked     []byte // goes up next: payload that was read from the accepted socket already
	DownPrefix []byte // goes down before anything else, once the dialed socket is connected

	PeekedEOF bool // Head is the last of it: its FIN was read, too

	// ConnectTimeout is how long connecting may take, to a second; 0 is for ever.
	ConnectTimeout time.Duration
	// OnStatus, if set, is asked about the first byte that comes from the
	// dialed socket, which is not relayed. An error from it resets both
	// sockets and ends the pair as Refused, unless it is an ErrUndelivered. Bytes
	// go up meanwhile.
	OnStatus func(byte) error
	// StatusTimeout is how long that byte may take, to a few seconds; 0 is for ever.
	StatusTimeout time.Duration
	// Hopeless, if set, is asked once a second while that byte is awaited and nothing of
	// the payload was written. An error ends the wait; see OnUndelivered. It needs a
	// StatusTimeout.
	Hopeless func() error
	// OnUndelivered, if set, gets the accepted socket back if nothing that it said has
	// been delivered: the dialed one could not be connected, or Answer says so, or
	// there was no answer and none of the payload was written. Done is not called
	// then. It may block: it is called on a goroutine of its own, and ctx ends when
	// what outlives a Shutdown is cut.
	//
	// For its sake what goes up before the answer is kept, and is no more than
	// KeptBytes.
	OnUndelivered func(ctx context.Context, u Undelivered)

	// Meter, if set, counts what the pair carries while it lives.
	Meter *Meter
	// Done is told how it ended, once both sockets are closed. It may be nil.
	Done func(Result)
}

// Undelivered is an accepted socket that is given back, to be relayed to another.
type Undelivered struct {
	Accepted  int
	Peeked    []byte // all that was read from it
	PeekedEOF bool   // and its FIN, too
	Err       error  // why
}

// MaxKept bounds what goes up before the answer of a pair that may be given back.
const MaxKept = 64 << 10

// Layer is what stands between a socket and its bytes. It never waits, uses the socket
// without owning it, and is used on one goroutine at a time.
type Layer interface {
	// Read reads some of what there is, up to len(b). At the end of it it tells why:
	// syscall.EAGAIN if no more is there for now, io.EOF if the other end has ended its
	// direction, or what is wrong, each as often as it is asked.
	Read(b []byte) (int, error)
	// Write takes all of b, or none of it (syscall.EAGAIN), and sends as much as the
	// socket takes.
	Write(b []byte) (int, error)
	// Flush sends what is left of the last write. As long as something is left it is
	// syscall.EAGAIN.
	Flush() error
	// CloseWrite ends this direction behind what was written. It may have to be flushed.
	CloseWrite() error
}

// meter is the pair's, or a new one.
func (p *Pair) meter() *Meter {
	if p.Meter == nil {
		return new(Meter)
	}
	return p.Meter
}

// Result tells what a pair carried, in bytes of payload, and why it ended.
type Result struct {
	Up, Down int64
	End      End
	Err      error // what ended it; nil if End is Finished, Idle or Cut
}

// LogValue gives the result to a structured log.
func (r Result) LogValue() slog.Value {
	attrs := []slog.Attr{slog.Int64("up", r.Up), slog.Int64("down", r.Down), slog.String("end", r.End.String())}
	if r.Err != nil {
		attrs = append(attrs, slog.Any("error", r.Err))
	}
	return slog.GroupValue(attrs...)
}

// End is why a pair ended.
type End uint8

// The ends of a pair.
const (
	Finished      End = iota // both directions ended by FIN
	AcceptedReset            // the accepted socket was reset, or timed out
	DialedReset              // the dialed socket was reset, or timed out
	Refused                  // by Pair.Answer, or for want of an answer
	Idle                     // one of the time-outs of Options
	Cut                      // the engine was shut down before the pair finished
	Failed                   // the engine could not relay it: out of descriptors or memory, or a bug
)

// String gives the end in a few words, for a log line.
func (e End) String() string {
	switch e {
	case Finished:
		return "finished"
	case AcceptedReset:
		return "reset by the accepted side"
	case DialedReset:
		return "reset by the dialed side"
	case Refused:
		return "refused"
	case Idle:
		return "idle for too long"
	case Cut:
		return "cut"
	case Failed:
		return "failed"
	}
	return "unknown"
}

// resetBy is the end of a pair whose socket on side s broke.
func resetBy(s int) End {
	if s == accepted {
		return AcceptedReset
	}
	return DialedReset
}

// The sides of a pair, and the directions: direction d carries from side d to
// the other.
const (
	accepted = 0
	dialed   = 1
)

// Options of an engine. The zero value is what the product uses.
type Options struct {
	// IdleTimeout ends pairs that carried nothing for so long; 0 is never.
	IdleTimeout time.Duration
	// HalfCloseTimeout ends pairs of which one direction has ended and the
	// other carried nothing for so long; 0 is never.
	HalfCloseTimeout time.Duration
	// DeadAfter ends pairs of which one side no longer acknowledges what was
	// sent to it, for so long; 0 leaves that to the kernel, which takes a quarter of
	// an hour. Where nothing is sent keepalive is what finds a dead path.
	DeadAfter time.Duration
	// Loops is the number of event loops; 0 is one less than there are processors
	// (GOMAXPROCS), which is the most that there should be.
	Loops int
	// Log is told what concerns no single pair; nil is nobody.
	Log *slog.Logger
}

// Meter counts the bytes of a pair while it lives.
type Meter struct {
	moved [2]atomic.Int64 // by direction
}

// Up is how many bytes went from the accepted socket to the dialed one.
func (m *Meter) Up() int64 { return m.moved[accepted].Load() }

// Down is how many bytes went the other way.
func (m *Meter) Down() int64 { return m.moved[dialed].Load() }

// Engine relays any number of pairs.
type Engine struct {
	loops []*loop
	next  atomic.Uint32 // the loop that gets the next pair
	log   *slog.Logger

	ctx context.Context //nolint:containedctx // ends when what outlives a Shutdown is cut, as net/http's BaseContext
	cut context.CancelFunc

	drains context.Context //nolint:containedctx // ends when there is a Shutdown
	drain  context.CancelFunc

	mu        sync.RWMutex
	listening []*listening // guarded by mu
	closed    bool         // there are no loops any more; guarded by mu

	deaf  sync.WaitGroup // loops that still accept
	live  sync.WaitGroup // pairs, openings, and goroutines
	pairs atomic.Int64   // that live
}

// ErrCut ends what outlives a Shutdown's context.
var ErrCut = errors.New("relay is shut down")

// New makes an engine. Shutdown gives back what it holds.
func New(o Options) (*Engine, error) {
	e := &Engine{log: o.Log}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	e.ctx, e.cut = context.WithCancel(context.Background())
	e.drains, e.drain = context.WithCancel(context.Background())
	var err error
	if e.loops, err = startLoops(e, o); err != nil {
		return nil, fmt.Errorf("start relay: %w", err)
	}
	return e, nil
}

// Relay takes over both sockets of p and returns at once. On an engine that
// is shut down the pair is reset and ends as Cut.
func (e *Engine) Relay(p Pair) {
	if !e.enter() {
		socket.Reset(p.Accepted)
		socket.Reset(p.Dialed)
		if p.Done != nil {
			p.Done(Result{End: Cut})
		}
		return
	}
	e.pairs.Add(1)
	l := e.loop()
	l.relay(&p)
	e.cutLate(l)
}

// ReadPreface takes over an accepted socket that has to say first what it wants. On an
// engine that is shut down it is reset.
func (e *Engine) ReadPreface(o Preface) Pending {
	if !e.enter() {
		socket.Reset(o.Accepted)
		o.OnError(ErrCut)
		return Pending{}
	}
	l := e.loop()
	f := l.listen(o)
	e.cutLate(l)
	return Pending{loop: l, flow: f}
}

// cutLate has a loop cut what was added to it after all else was.
func (e *Engine) cutLate(l *loop) {
	if e.ctx.Err() != nil {
		l.order(orderCut)
	}
}

// Go runs f on a goroutine of its own, for what must wait; Shutdown waits for
// it, and ends ctx when what is left is cut. On an engine that is shut down ctx
// has ended.
func (e *Engine) Go(f func(ctx context.Context)) {
	if !e.enter() {
		f(e.ctx)
		return
	}
	e.goOn(f)
}

// loop is the one whose turn it is.
func (e *Engine) loop() *loop {
	return e.loops[e.next.Add(1)%uint32(len(e.loops))]
}

// enter lets one more pair, opening or goroutine in, unless the engine is closed.
func (e *Engine) enter() bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.closed {
		return false
	}
	e.live.Add(1)
	return true
}

// leave is the end of a pair.
func (e *Engine) leave(done func(Result), r Result) {
	defer e.live.Done()
	e.pairs.Add(-1)
	if done != nil {
		done(r)
	}
}

// leaveOpening is the end of an opening.
func (e *Engine) leaveOpening(gone func(error), err error) {
	defer e.live.Done()
	gone(err)
}

// goOn is the end of a pair or opening that goes on as a goroutine.
func (e *Engine) goOn(f func(context.Context)) {
	go func() {
		defer e.live.Done()
		defer e.survive()
		f(e.ctx)
	}()
}

// survive, deferred, has a bug in a function of others end that function only.
func (e *Engine) survive() {
	if v := recover(); v != nil {
		e.log.Error("a connection's handler panicked", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
	}
}

// Len is the number of live pairs.
func (e *Engine) Len() int { return int(e.pairs.Load()) }

// Draining reports whether Shutdown was called.
func (e *Engine) Draining() bool { return e.drains.Err() != nil }

// OnDrain calls f on a goroutine of its own once Shutdown is called, unless stop was
// called before.
func (e *Engine) OnDrain(f func()) (stop func() bool) { return context.AfterFunc(e.drains, f) }

// Shutdown closes the listeners and waits for all that is live. What is still
// there when ctx ends is cut: its sockets are reset. It returns when nothing is
// left, with ctx's error if a pair had to be cut.
func (e *Engine) Shutdown(ctx context.Context) error {
	e.mu.Lock()
	again := e.Draining()
	e.drain()
	e.mu.Unlock()
	if again {
		return nil
	}
	e.deafen()
	finished := make(chan struct{})
	go func() {
		e.live.Wait()
		close(finished)
	}()
	defer e.stop()
	select {
	case <-finished:
		return nil
	case <-ctx.Done():
	}
	cut := e.Len()
	e.cut()
	for _, l := range e.loops {
		l.order(orderCut)
	}
	<-finished
	if cut == 0 {
		return nil
	}
	return context.Cause(ctx)
}

// deafen closes the listeners, once no loop accepts from them any more.
func (e *Engine) deafen() {
	e.deaf.Add(len(e.loops))
	for _, l := range e.loops {
		l.order(orderDeafen)
	}
	e.deaf.Wait()
	e.mu.RLock()
	listening := e.listening
	e.mu.RUnlock()
	for _, s := range listening {
		// Whoever has been connected by the kernel has come in time, and would be reset.
		for range mostBacklog {
			fd, from, err := socket.Accept(s.fd)
			if err == nil {
				e.serve(s, fd, from)
			} else if !errors.Is(err, syscall.ECONNABORTED) && !errors.Is(err, syscall.EINTR) {
				break
			}
		}
		socket.Close(s.fd)
	}
	for _, l := range e.loops {
		l.order(orderHurry)
	}
}

// mostBacklog bounds how many are accepted in the end: as many as a listener can have
// waiting (net.core.somaxconn).
const mostBacklog = 4096

// stop ends what the engine runs, once nothing is live.
func (e *Engine) stop() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.cut()
	for _, l := range e.loops {
		l.order(orderStop)
		<-l.stopped
	}
}
