// Package relay moves the bytes of a connection between its two sockets and
// carries over how each side closes.
//
// An [Engine] takes a [Pair]: the socket that was accepted and the socket
// that was dialled for it. From [Engine.Relay] on it owns both, closes both,
// and calls the pair's Done exactly once. The caller keeps no goroutine for
// it.
//
// Close semantics, the same in both directions and on both paths:
//
//   - FIN is passed on as a half-close, after the last byte before it. The
//     other direction lives on for as long as it likes (RFC 9293, 3.6).
//   - RST is passed on as RST, also while a direction is half-closed and
//     nothing moves.
//   - No idle time-out unless asked for. A dead path ends by TCP keepalive or,
//     with something under way, by Options.DeadAfter, and counts as a reset.
//   - A pair lives until the other ends have acknowledged its last byte.
//
// # Two paths
//
// The event loops are for what the product relays: an idle pair is two
// descriptors and a small struct. See loop.go. The copiers are one goroutine
// for each direction and io.Copy, for connections that are more than a socket.
// See copier.go.
//
// The sockets are bare *net.TCPConn because splice(2) needs them so: any
// wrapper around one silently turns the copy into read and write.
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Pair is one connection to relay. "Up" is the way from the accepted socket
// to the dialled one: on the client and on the server alike that is the way
// from the peer to the service.
type Pair struct {
	Accepted *net.TCPConn
	Dialled  *net.TCPConn

	// Done is told how it ended, once both sockets are closed. It is called
	// on a goroutine of the engine and must not block. It may be nil.
	Done func(Result)

	// Answer, if set, is asked about the first byte that comes from the
	// dialled socket, which is not relayed. An error from it resets both
	// sockets and ends the pair as Refused. Bytes go up meanwhile. Like Done it
	// must not block.
	Answer func(byte) error
	// AnswerTimeout is how long that byte may take, to the second; 0 is for
	// ever.
	AnswerTimeout time.Duration
}

// Errors of a pair whose answer did not come.
var (
	ErrNoAnswer       = errors.New("no answer in time")
	errEndsUnanswered = errors.New("ended before its answer")
)

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
	DialledReset             // the dialled socket was reset, or timed out
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
	case DialledReset:
		return "reset by the dialled side"
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
	return DialledReset
}

// The sides of a pair, and the directions: direction d carries from side d to
// the other.
const (
	accepted = 0
	dialled  = 1
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
	// an hour. It is for the event loops. Where nothing is sent keepalive is what
	// finds a dead path.
	DeadAfter time.Duration
	// Loops is the number of event loops; 0 is one for each processor (GOMAXPROCS).
	Loops int
	// Copiers takes the goroutine path for every pair.
	Copiers bool
}

// Meter counts the bytes of a pair while it lives.
type Meter struct {
	moved [2]atomic.Int64 // by direction
}

// Up is how many bytes went from the accepted socket to the dialled one.
func (m *Meter) Up() int64 { return m.moved[accepted].Load() }

// Down is how many bytes went the other way.
func (m *Meter) Down() int64 { return m.moved[dialled].Load() }

// Engine relays any number of pairs.
type Engine struct {
	loops  []*loop
	next   atomic.Uint32 // the loop that gets the next pair
	copies *copies

	mu     sync.RWMutex // held for reading while a pair is being added
	closed bool         // Shutdown was called; guarded by mu
	live   sync.WaitGroup
	count  atomic.Int64
}

// errCut ends the pairs that outlive a Shutdown's context.
var errCut = errors.New("relay is shut down")

// New makes an engine. Shutdown gives back what it holds.
func New(o Options) (*Engine, error) {
	e := new(Engine)
	var err error
	if o.Copiers {
		e.copies, err = newCopies()
	} else {
		e.loops, err = startLoops(o)
	}
	if err != nil {
		return nil, fmt.Errorf("start relay: %w", err)
	}
	return e, nil
}

// Relay takes over both sockets of p and returns at once. On an engine that
// is shut down the pair is reset and ends as Cut.
func (e *Engine) Relay(p Pair) *Meter {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.closed {
		return refuse(p, Result{End: Cut})
	}
	e.live.Add(1)
	e.count.Add(1)
	done := p.Done
	p.Done = func(r Result) {
		defer e.live.Done()
		e.count.Add(-1)
		if done != nil {
			done(r)
		}
	}
	if e.copies != nil {
		return e.copies.relay(p)
	}
	return e.loops[e.next.Add(1)%uint32(len(e.loops))].relay(p)
}

// refuse resets both sockets of a pair that was not taken over.
func refuse(p Pair, r Result) *Meter {
	for _, c := range []*net.TCPConn{p.Accepted, p.Dialled} {
		_ = c.SetLinger(0)
		_ = c.Close()
	}
	if p.Done != nil {
		p.Done(r)
	}
	return new(Meter)
}

// Len is the number of live pairs.
func (e *Engine) Len() int { return int(e.count.Load()) }

// Shutdown takes no new pairs and waits for the live ones. Those that are
// still there when ctx ends are cut: both their sockets are reset. It returns
// when none is left, with ctx's error if any had to be cut.
func (e *Engine) Shutdown(ctx context.Context) error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()

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
	for _, l := range e.loops {
		l.order(orderCut)
	}
	if e.copies != nil {
		e.copies.cut()
	}
	<-finished
	if cut == 0 {
		return nil
	}
	return context.Cause(ctx)
}

// stop ends what the engine runs, once no pair is left.
func (e *Engine) stop() {
	for _, l := range e.loops {
		l.order(orderStop)
		<-l.stopped
	}
	if e.copies != nil {
		e.copies.resets.close()
	}
}
