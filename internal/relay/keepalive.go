package relay

import "portredirector/internal/socket"

// Keepalive of dialed sockets is set once their pair has lived for a second. A short
// connection, of which there are many, saves those system calls. Accepted sockets inherit
// theirs from the listener.

// keepAlive sets keepalive for the flows that have lived for a tick. A number may have
// passed to a later flow, which gets its keepalive early.
func (w *workspace) keepAlive() {
	w.flows.mu.Lock()
	defer w.flows.mu.Unlock()
	for _, n := range w.older {
		if f := w.flows.byNum[n]; f != nil && f.stage() > connecting && !f.keepAlive {
			f.keepAlive = true
			_ = socket.KeepAlive(int(f.side[dialed].fd), w.opts.KeepAlive)
		}
	}
	w.young, w.older = w.older[:0], w.young
}
