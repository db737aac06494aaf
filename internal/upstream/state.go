package upstream

import (
	"time"

	"portredirector/internal/socket"
)

// State describes a server at one moment.
type State struct {
	Name          string
	Up            bool          // in use for peers
	Failure       error         // the error of the last attempt to open a link, or nil
	Peers         int           // peers with a link to the server
	Idle, Opening int           // links of the pool
	RTT           time.Duration // the least RTT of an idle link; 0 if none
}

// States returns the states of all servers, in the order of preference.
func (ss *Servers) States() []State {
	var all []State
	for _, s := range *ss.all.Load() {
		state := State{
			Name: s.name, Up: s.best.Load() != nil && !s.suspect.Load(),
			Peers: int(s.peers.Load()),
		}
		if !state.Up {
			state.Failure = s.source.failure()
		}
		state.Idle, state.Opening = s.pool.lengths()
		state.RTT = s.pool.rtt()
		all = append(all, state)
	}
	return all
}

// lengths returns the numbers of links that are there, and that will be.
func (p *pool) lengths() (idle, opening int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links), p.coming
}

// rtt returns the least round trip of the link that the next peer would get, or 0.
func (p *pool) rtt() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.links); n > 0 {
		return socket.LookPath(p.links[n-1].fd).RTTMin
	}
	return 0
}
