package upstream

import (
	"slices"
	"time"

	"portredirector/internal/auth"
)

// Link is a link to a server.
type Link struct {
	pooled

	server *server
	taken  int64 // when it was, on the clock of Servers
	ready  bool  // it was connected when it was taken
	missed bool  // the peer found no connected link at first
	spent  bool  // it carries no further peer

	Timeout time.Duration // of the rest of connecting
}

// FD returns the descriptor.
func (l Link) FD() int { return l.fd }

// Session returns the session of an authenticated link, and nil of a plain one.
func (l Link) Session() *auth.Session { return l.session }

// Carried returns the number of headers that the link has carried. It is the number of the
// next header for wire.Seal.
func (l Link) Carried() uint64 { return l.carried }

// Server returns the name of the server.
func (l Link) Server() string { return l.server.name }

// Leave notes that the peer of the link is gone.
func (l Link) Leave() { l.server.peers.Add(-1) }

// Return gives back a link whose exchange is over, for the next peer. It does not block.
// The link is closed if it is of no more use. It must be native, since others carry one
// peer.
func (l Link) Return() {
	s := l.server
	l.carried, l.seen = l.carried+1, true
	if l.missed && s.set.clock()-l.taken < int64(time.Second) {
		s.pool.unmiss()
	}
	if l.spent || s.best.Load() == nil || l.Lost() != nil || !l.trusted() || l.aged() {
		l.close()
		return
	}
	l.PutBack()
}

// Retire makes Return close the link.
func (l *Link) Retire() { l.spent = true }

// PutBack gives back a link over which nothing was sent. It does not block.
func (l Link) PutBack() { l.server.set.deliver(l.server, l.pooled) }

// Close closes a link that carries no peer.
func (l Link) Close() { l.close() }

// Ready reports whether the link was opened ahead. The server may have closed it just
// before it was taken, so that its failure does not show that the server fails.
func (l Link) Ready() bool { return l.ready }

// Fail notes that the link could not be connected, or ended without an answer. Its
// server is left out.
func (l Link) Fail(err error) { l.server.source.fail(l.to, err) }

// Mute reports whether the server has answered nobody since the link was taken.
func (l Link) Mute() bool { return l.server.answered.Load() < l.taken }

// Works notes that the server has answered.
func (l Link) Works() {
	l.server.answers()
}

// Lost returns an error if the program of the server was found not to answer after the
// link was taken. A peer of which nothing was sent may go to another server then.
func (l Link) Lost() error {
	if l.server.lost.Load() > l.taken {
		return ErrNoAnswer
	}
	return nil
}

// Tried are the servers that a peer need not be offered again. The zero value is none.
type Tried struct {
	servers []*server
	waiter  *waiter // its place in the queue; nil if it is not queued
}

// Add adds the server of a link.
func (t *Tried) Add(l Link) { t.servers = append(t.servers, l.server) }

func (t *Tried) has(s *server) bool { return slices.Contains(t.servers, s) }
