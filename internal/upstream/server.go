package upstream

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"
)

// server is one to which links lead. It is in use as long as it has a best address.
type server struct {
	name   string // for the log, and to find it again
	set    *Servers
	group  *group // nil if the server has attached itself
	source source
	pool   *pool

	peers   atomic.Int64 // that have a link to it
	best    atomic.Pointer[netip.AddrPort]
	several atomic.Bool // it has more than one address

	// Times on the clock of Servers; 0 is never.
	answered atomic.Int64 // of the last answer
	asked    atomic.Int64 // of the first link given out since then
	lost     atomic.Int64 // since when the program does not answer
	suspect  atomic.Bool  // peers go to others, until the program is known to answer

	priority int // the lowest that is in use counts within a group (RFC 2782); guarded by Servers.turns
	weight   int // at least 1; guarded by Servers.turns
	current  int // of the smooth weighted round-robin; guarded by Servers.turns
}

// source opens the links of a server. A [dialed] server is dialed by this client; a
// [ReverseServer] has dialed the client and opens links on request. Only open blocks.
type source interface {
	// connect begins a link for a peer for which the pool has none. It returns
	// errNotReady or errUnproven if the peer has to wait; then open does.
	connect(to netip.AddrPort) (pooled, error)
	// open returns a link for a peer that may wait for it. It returns errLeftOut or
	// errTryOthers if the server has to be chosen anew; changed is closed then.
	open(ctx context.Context, tried *Tried, changed <-chan struct{}) (Link, error)
	// refill opens or requests n links that the pool lacks.
	refill(n int)
	// order requests n links, for the pool or for queued peers.
	order(n int)

	// dials reports whether at is an address of the server.
	dials(at netip.AddrPort) bool
	// maintain is called once a second, and when the pool has lost links.
	maintain()
	// wake notes that a peer waits for the server.
	wake()
	// fail notes that a link to the address at has failed.
	fail(at netip.AddrPort, err error)
	// works notes that the server has answered.
	works()
	// failure returns why the server gave no link lately.
	failure() error
}

// take returns a link. It returns errLeftOut if the server cannot be connected, and
// errNotReady if the peer has to wait for a link. Other errors are failures of this
// machine.
func (s *server) take() (Link, error) {
	best := s.best.Load()
	if best == nil {
		return Link{}, errLeftOut
	}
	l := Link{server: s, Timeout: s.set.timeout(s), taken: s.set.clock()}
	var want int
	l.pooled, l.ready, want = s.pool.take()
	l.missed = !l.ready
	if l.fd < 0 {
		var err error
		if l.pooled, err = s.source.connect(*best); err != nil {
			s.refill(want)
			return Link{}, err
		}
	}
	s.gave(l)
	s.refill(want)
	return l, nil
}

func (s *server) refill(n int) {
	if n > 0 {
		s.source.refill(n)
	}
}

// gave notes that a peer has a link.
func (s *server) gave(l Link) {
	s.peers.Add(1)
	if s.asked.Load() == 0 {
		s.asked.CompareAndSwap(0, l.taken)
	}
}

// answers notes that the program has answered.
func (s *server) answers() {
	first := s.answered.Swap(s.set.clock()) == 0
	if s.asked.Load() != 0 {
		s.asked.Store(0)
	}
	if s.suspect.Load() {
		s.suspect.Store(false)
	}
	s.source.works()
	if first {
		s.set.announce()
	}
}

// silent reports whether peers wait for an answer, and none has come for a while.
func (s *server) silent() bool {
	asked := s.asked.Load()
	return s.set.cfg.Answers && asked != 0 && s.set.clock()-asked > int64(silentAfter)
}

// silentAfter is the time without any answer after which the program is asked.
const silentAfter = time.Second

// load returns the number of peers of the server, and of peers that wait for a link that
// was requested.
func (s *server) load() int64 { return s.peers.Load() + int64(s.pool.expected()) }
