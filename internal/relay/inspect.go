package relay

import (
	"errors"

	"portredirector/internal/socket"
)

// ErrClosed ends a pair that [Engine.Close] has closed.
var ErrClosed = errors.New("closed by an operator")

// loopOf returns the loop of a pair, or nil if its dialed socket is not connected yet.
func (e *Engine) loopOf(m *Meter) *loop {
	if loop, _, ok := m.where(); ok {
		return e.loops[loop]
	}
	return nil
}

// flowOf returns the flow of a live pair of this loop, or nil.
func (l *loop) flowOf(m *Meter) *flow {
	_, number, _ := m.where()
	f := l.flows.get(number)
	if f == nil || f.meter != m || f.stage() == prefacing || f.stage() == leaving {
		return nil
	}
	return f
}

// call has the loop call f, and waits for it. It does nothing if the loop has ended.
func (l *loop) call(f func()) {
	called := make(chan struct{})
	l.postCall(func() {
		defer close(called)
		f()
	})
	select {
	case <-called:
	case <-l.stopped:
	}
}

// Paths has the paths of the accepted and the dialed socket of a pair.
type Paths struct{ Accepted, Dialed socket.Path }

// mostAtOnce bounds the pairs that a loop looks at in one go: its other pairs wait meanwhile.
const mostAtOnce = 64

// Paths returns the paths of pairs by their meters. They are unknown if the pair does not live,
// or its dialed socket is not connected. It must not be called on a loop.
func (e *Engine) Paths(meters []*Meter) []Paths {
	all := make([]Paths, len(meters))
	byLoop := make(map[*loop][]int)
	for i, m := range meters {
		if l := e.loopOf(m); l != nil {
			byLoop[l] = append(byLoop[l], i)
		}
	}
	for l, places := range byLoop {
		for len(places) > 0 {
			some := places[:min(len(places), mostAtOnce)]
			places = places[len(some):]
			looked := make([]Paths, len(some))
			l.call(func() {
				for i, place := range some {
					looked[i] = l.look(meters[place])
				}
			})
			for i, place := range some {
				all[place] = looked[i]
			}
		}
	}
	return all
}

// look returns the paths of a pair.
func (l *loop) look(m *Meter) (p Paths) {
	if f := l.flowOf(m); f != nil {
		p.Accepted = socket.LookPath(int(f.side[accepted].fd))
		p.Dialed = socket.LookPath(int(f.side[dialed].fd))
	}
	return p
}

// Close resets a live pair, as Shutdown does when its time is over. The pair ends with ErrClosed.
// Close reports whether the pair was live and its dialed socket connected. It must not be called
// on a loop.
func (e *Engine) Close(m *Meter) (closed bool) {
	l := e.loopOf(m)
	if l == nil {
		return false
	}
	l.call(func() {
		if f := l.flowOf(m); f != nil {
			l.finish(f, cut, ErrClosed)
			closed = true
		}
	})
	return closed
}
