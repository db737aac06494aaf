package relay

import "portredirector/internal/socket"

// call makes the loop call f, and waits until f returns. It does nothing if the loop has ended.
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

// Paths holds the paths of the accepted and the dialed socket of a pair.
type Paths struct{ Accepted, Dialed socket.Path }

// mostAtOnce is the most pairs that a loop inspects at once, because its other pairs wait meanwhile.
const mostAtOnce = 64

// Paths returns the paths of pairs by their meters. A path is unknown if the pair has ended or its
// dialed socket is not connected. Paths must not be called on a loop.
func (*Engine) Paths(meters []*Meter) []Paths {
	all := make([]Paths, len(meters))
	byLoop := make(map[*loop][]int)
	for i, m := range meters {
		if f := m.flow.Load(); f != nil {
			byLoop[f.loop] = append(byLoop[f.loop], i)
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
	if f := m.flow.Load(); f != nil && (f.stage() == open || f.stage() == awaitingStatus) {
		p.Accepted = socket.LookPath(int(f.side[accepted].fd))
		p.Dialed = socket.LookPath(int(f.side[dialed].fd))
	}
	return p
}
