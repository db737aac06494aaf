package relay

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"portredirector/internal/socket"
)

// longAgo as a deadline wakes whoever waits on a socket.
var longAgo = time.Unix(1, 0)

// copies are the pairs on the goroutine path. Their sockets are connected, and
// have neither a prefix nor a greeting. It is not for urgent data, at which
// splice(2) stops without a word.
type copies struct {
	engine *Engine
	resets *resets

	mu    sync.Mutex
	pairs map[*pair]struct{} // guarded by mu
}

func newCopies(e *Engine) (*copies, error) {
	r, err := newResets()
	if err != nil {
		return nil, err
	}
	return &copies{engine: e, resets: r, pairs: make(map[*pair]struct{})}, nil
}

// relay starts the copiers of a pair.
func (cs *copies) relay(p Pair) {
	live := &pair{Pair: p, Meter: p.meter()}
	var errs [2]error
	live.accepted, errs[0] = socket.Conn(p.Accepted)
	live.dialled, errs[1] = socket.Conn(p.Dialled)
	if err := errors.Join(errs[:]...); err != nil {
		for _, c := range []*net.TCPConn{live.accepted, live.dialled} {
			if c != nil {
				_ = c.Close()
			}
		}
		cs.engine.leave(p.Done, Result{End: Failed, Err: err})
		return
	}
	cs.mu.Lock()
	cs.pairs[live] = struct{}{}
	cs.mu.Unlock()
	go func() {
		if err := cs.resets.add(live); err != nil {
			live.abort(Failed, err)
		}
		if cs.engine.ctx.Err() != nil { // too late to be cut with the others
			live.abort(Cut, ErrCut)
		}
		live.run()
		live.linger()
		cs.resets.remove(live)
		cs.mu.Lock()
		delete(cs.pairs, live)
		cs.mu.Unlock()
		cs.engine.leave(p.Done, live.close())
	}()
}

// cut aborts the pairs that there are.
func (cs *copies) cut() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for p := range cs.pairs {
		p.abort(Cut, ErrCut)
	}
}

// pair is a Pair under way: one goroutine for each direction.
type pair struct {
	Pair
	*Meter

	accepted, dialled *net.TCPConn

	numbers [2]int32 // of the sockets, in resets

	mu  sync.Mutex
	end End   // guarded by mu
	err error // the first error; guarded by mu
}

// run relays both directions.
func (p *pair) run() {
	down := make(chan struct{})
	go func() {
		defer close(down)
		if err := p.readAnswer(); err != nil {
			p.abort(Refused, err)
			return
		}
		p.pump(p.accepted, p.dialled, &p.moved[dialled])
	}()
	p.pump(p.dialled, p.accepted, &p.moved[accepted])
	<-down
}

// readAnswer takes in the one byte that is not relayed.
func (p *pair) readAnswer() error {
	if p.Answer == nil {
		return nil
	}
	if p.AnswerTimeout > 0 {
		if err := p.dialled.SetReadDeadline(time.Now().Add(p.AnswerTimeout)); err != nil {
			return err
		}
	}
	var b [1]byte
	_, err := io.ReadFull(p.dialled, b[:])
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ErrNoAnswer
	case errors.Is(err, io.EOF):
		return errEndsUnanswered
	case err != nil:
		return err
	}
	if err := p.Answer(b[0]); err != nil {
		return err
	}
	return p.dialled.SetReadDeadline(time.Time{})
}

// chunk is how much a copier moves between two updates of the meter. A
// LimitedReader, unlike any other wrapper, keeps the splice (net.spliceFrom).
const chunk = 4 << 20

// pump copies src to dst until src's FIN, and passes that on. When it returns,
// either the direction has ended well, or abort was called.
func (p *pair) pump(dst, src *net.TCPConn, moved *atomic.Int64) {
	for {
		n, err := io.Copy(dst, io.LimitReader(src, chunk)) // splice(2), see net.TCPConn.ReadFrom
		moved.Add(n)
		switch {
		case err != nil:
			p.abort(p.culprit(dst), err)
			return
		case n < chunk:
			if err := dst.CloseWrite(); err != nil {
				p.abort(p.culprit(dst), err)
			}
			return
		}
	}
}

// abort ends the pair by reset. The first call wins; copying stops in both
// directions, and finish sends the RSTs.
func (p *pair) abort(end End, err error) {
	p.mu.Lock()
	first := p.err == nil
	if first {
		p.end, p.err = end, err
	}
	p.mu.Unlock()
	if first {
		_ = p.accepted.SetDeadline(longAgo)
		_ = p.dialled.SetDeadline(longAgo)
	}
}

// linger waits until everything was delivered, or the pair is aborted.
func (p *pair) linger() {
	for _, c := range []*net.TCPConn{p.accepted, p.dialled} {
		raw, err := c.SyscallConn()
		if err != nil {
			continue
		}
		for waiting := true; waiting; {
			err := raw.Control(func(fd uintptr) { waiting = undelivered(int(fd)) })
			p.mu.Lock()
			waiting = waiting && err == nil && p.err == nil
			p.mu.Unlock()
			if waiting {
				time.Sleep(lingerPoll)
			}
		}
	}
}

// lingerPoll is how often a copier looks whether all was delivered.
const lingerPoll = 20 * time.Millisecond

// close closes both sockets.
func (p *pair) close() Result {
	p.mu.Lock()
	r := Result{Up: p.Up(), Down: p.Down(), End: p.end, Err: p.err}
	p.mu.Unlock()
	if r.Err != nil {
		// SO_LINGER of zero makes close(2) send RST and drop what is unsent
		// (socket(7)).
		_ = p.accepted.SetLinger(0)
		_ = p.dialled.SetLinger(0)
	}
	_ = p.accepted.Close()
	_ = p.dialled.Close()
	if r.End == Cut {
		r.Err = nil
	}
	return r
}

// culprit tells which side failed a copy towards dst: net reports an error
// of the source and of the destination alike.
func (p *pair) culprit(dst *net.TCPConn) End {
	if broken(dst) {
		return p.endOf(dst)
	}
	if dst == p.accepted {
		return DialledReset
	}
	return AcceptedReset
}

// endOf is the end of a pair whose socket c broke.
func (p *pair) endOf(c *net.TCPConn) End {
	if c == p.accepted {
		return AcceptedReset
	}
	return DialledReset
}

// broken reports whether the kernel has given the connection up.
func broken(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	is := true
	_ = raw.Control(func(fd uintptr) { is = socket.Look(int(fd)).Broken }) // it fails once the connection is closed
	return is
}
