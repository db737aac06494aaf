package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"portredirector/internal/auth"
)

// Config is what links are to be like.
type Config struct {
	// Servers are where they lead: "host:port", or "srv:name" for what the SRV
	// records of a name say. There is at least one, unless servers may join.
	Servers []string
	// Joined says that servers may join, see [Links.Join].
	Joined  bool
	Balance Balance
	// PoolMin and PoolMax bound how many links are open ahead of need, to each
	// server; with 0 as the second there are none.
	PoolMin, PoolMax int
	// Answers says that servers answer, by which it is known that they work. Of
	// others it is known only that they can be connected.
	Answers bool
	// Secure makes sure of servers; nil is plain links.
	Secure         *auth.Dialer
	ConnectTimeout time.Duration       // for one link
	KeepAlive      net.KeepAliveConfig // of links that are in use
	Heartbeat      time.Duration       // of those that are not, of servers that have joined
	Resolver       Resolver            // nil is the system's
	Log            *slog.Logger
}

// Links are the links of a client. New makes one, and Run has to run for most of
// what it does.
type Links struct {
	cfg   Config
	start time.Time
	dial  *dialer // for now
	ahead *dialer // for the pools
	lists []*list

	joined *list // of servers that have; also the last of lists
	queue  queue

	all     atomic.Pointer[[]*server] // of all lists, in their order
	turns   sync.Mutex                // guards server.current, priority and weight
	waiting atomic.Int64              // peers in Wait

	mu      sync.Mutex
	changed chan struct{}  // closed when a server comes back; guarded by mu
	tasks   sync.WaitGroup // of Run
}

// New makes links. Servers that are no names can be linked to at once.
func New(cfg Config) *Links {
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	ls := &Links{cfg: cfg, start: time.Now(), dial: &dialer{alive: cfg.KeepAlive, ports: newPorts()}, changed: make(chan struct{})}
	ls.ahead = ls.dial.ahead()
	for _, name := range cfg.Servers {
		l := &list{links: ls, name: name, again: make(chan struct{}, 1)}
		if at, ok := l.literal(); ok {
			l.servers = []*server{newServer(ls, l, target{name: name, host: at.Addr().String(), addrs: []netip.AddrPort{at}, weight: 1})}
		}
		ls.lists = append(ls.lists, l)
	}
	ls.joined = &list{links: ls, again: make(chan struct{}, 1)}
	ls.lists = append(ls.lists, ls.joined)
	ls.publish()
	return ls
}

// Run does what no peer should wait for, until ctx ends. Then it closes the links
// that nobody has taken.
func (ls *Links) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer ls.tasks.Wait()
	defer cancel()
	for _, l := range ls.lists {
		if l == ls.joined {
			continue
		}
		if _, ok := l.literal(); ok {
			ls.serve(ctx, l.servers[0])
		} else {
			ls.tasks.Go(func() { l.run(ctx) })
		}
	}
	if !ls.pooling() && !ls.cfg.Joined {
		<-ctx.Done()
		return nil
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		for _, s := range *ls.all.Load() {
			s.fill()
		}
		ls.demand()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// serve starts the task of a server.
func (ls *Links) serve(ctx context.Context, s *server) {
	ctx, s.stop = context.WithCancel(ctx)
	ls.tasks.Go(func() { s.run(ctx) })
}

// apply makes the servers of a list those that its name stands for now.
func (ls *Links) apply(ctx context.Context, l *list, targets []target) {
	var now []*server
	for _, t := range targets {
		i := slices.IndexFunc(l.servers, func(s *server) bool { return s.name == t.name })
		if i >= 0 {
			l.servers[i].aim(t)
			now = append(now, l.servers[i])
			continue
		}
		s := newServer(ls, l, t)
		ls.serve(ctx, s)
		now = append(now, s)
	}
	for _, s := range l.servers {
		if !slices.Contains(now, s) {
			s.stop()
		}
	}
	if ls.cfg.Balance == Failover {
		// Package net shuffles records of one priority. Those that are known keep their order.
		slices.SortStableFunc(now, func(a, b *server) int {
			return cmp.Or(cmp.Compare(a.priority, b.priority), l.place(a)-l.place(b))
		})
	}
	ls.mu.Lock()
	l.servers = now
	ls.mu.Unlock()
	ls.publish()
	ls.announce()
}

// place is where a server stands in the list, the end if it is new.
func (l *list) place(s *server) int {
	if i := slices.Index(l.servers, s); i >= 0 {
		return i
	}
	return len(l.servers)
}

// publish makes known which servers there are.
func (ls *Links) publish() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	var all []*server
	for _, l := range ls.lists {
		all = append(all, l.servers...)
	}
	ls.all.Store(&all)
}

// announce wakes those that wait for a server.
func (ls *Links) announce() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	close(ls.changed)
	ls.changed = make(chan struct{})
}

// clock is the clock of links: nanoseconds, monotonic.
func (ls *Links) clock() int64 { return int64(time.Since(ls.start)) }

func (ls *Links) pooling() bool { return ls.cfg.PoolMax > 0 }

// timeout is how long a link to a server may take to connect: less if there is
// something else to be tried.
func (ls *Links) timeout(s *server) time.Duration {
	if len(*ls.all.Load()) > 1 || s.several.Load() {
		return min(tryTimeout, ls.cfg.ConnectTimeout)
	}
	return ls.cfg.ConnectTimeout
}

// Link is a link to a server.
type Link struct {
	pooled

	server *server
	ready  bool  // it was connected when it was taken
	taken  int64 // when, on the clock of links

	Timeout time.Duration // for what is left of connecting
}

// FD is the descriptor, which belongs to whoever has taken the link.
func (l Link) FD() int { return l.fd }

// Session is what its ends are sure of, nil if it is plain.
func (l Link) Session() *auth.Session { return l.session }

// Server is where it leads, by name.
func (l Link) Server() string { return l.server.name }

// Leave notes that its peer is gone.
func (l Link) Leave() { l.server.peers.Add(-1) }

// Ready reports whether the link had been opened ahead, so that its failure is not
// yet one of the server.
func (l Link) Ready() bool { return l.ready }

// Fail notes that the link could not be connected, or ended without an answer: its
// server is left out.
func (l Link) Fail(err error) { l.server.fail(l.to, err) }

// Mute reports whether the server has answered nobody since the link was taken.
func (l Link) Mute() bool { return l.server.answered.Load() < l.taken }

// Works notes that the server answers.
func (l Link) Works() { l.server.works() }

// Errors of links.
var (
	// ErrDraining is the failure of a server that takes no new peers.
	ErrDraining = errors.New("draining")
	// ErrForeign is the failure of a server that is another program than ours.
	ErrForeign = errors.New("not a portredirector server")
	errTried   = errors.New("there is no other server")
)

// Take gives a link to a server that works and is not among those tried. It does not
// wait. With none at hand it is false, and the caller goes on to Wait, where it is behind
// all for whom that was so before. An error is one of this machine.
func (ls *Links) Take(tried *Tried) (l Link, ok bool, err error) {
	if ls.cfg.Joined && ls.queue.busy() {
		ls.missed(tried)
	} else {
		l, ok, err = ls.take(tried)
	}
	if !ok && err == nil {
		ls.enter(tried)
	}
	return l, ok, err
}

func (ls *Links) take(tried *Tried) (l Link, ok bool, err error) {
	for {
		s := ls.choose(tried)
		if s == nil {
			return Link{}, false, nil
		}
		switch l, err := s.take(); {
		case errors.Is(err, errNotReady):
			return Link{}, false, nil
		case !errors.Is(err, errLeftOut):
			return l, err == nil, err
		}
	}
}

// Open does so too, and waits for a server to prove who it is, or to open a link, if it
// has to. It is false if there is no server that could.
func (ls *Links) Open(ctx context.Context, tried *Tried) (Link, bool, error) {
	defer ls.leave(tried)
	return ls.open(ctx, tried)
}

func (ls *Links) open(ctx context.Context, tried *Tried) (l Link, ok bool, err error) {
	for {
		changed := ls.changes()
		s := ls.choose(tried)
		if s == nil {
			return Link{}, false, nil
		}
		if !s.joined() {
			ls.leave(tried) // it does not wait for one that has joined
		}
		if tried.waiter == nil {
			switch l, err = s.take(); {
			case errors.Is(err, errLeftOut):
				continue
			case !errors.Is(err, errNotReady):
				return l, err == nil, err
			}
		}
		if s.joined() {
			ls.enter(tried)
			select {
			case l = <-tried.place():
				return l, true, nil
			case <-changed:
			case <-ctx.Done():
				return Link{}, false, context.Cause(ctx)
			}
			continue
		}
		switch l, err = s.dial(ctx); {
		case err == nil:
			return l, true, nil
		case ctx.Err() != nil || exhausted(err):
			return Link{}, false, err
		} // else it is left out by now
	}
}

// changes is closed when a server comes, or one that has joined goes.
func (ls *Links) changes() <-chan struct{} {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.changed
}

// Wait does so too, and waits until there is a server.
func (ls *Links) Wait(ctx context.Context, tried *Tried) (Link, error) {
	defer ls.leave(tried)
	ls.waiting.Add(1)
	defer ls.waiting.Add(-1)
	for _, s := range *ls.all.Load() {
		s.poke()
	}
	for {
		changed := ls.changes()
		l, ok, err := ls.open(ctx, tried)
		switch {
		case err != nil && ctx.Err() != nil:
			return Link{}, ls.why(tried)
		case ok || err != nil:
			return l, err
		}
		if !ls.untried(tried) {
			return Link{}, errTried
		}
		if err := ls.untrusted(tried); err != nil {
			return Link{}, err
		}
		select {
		case l := <-tried.place():
			return l, nil
		case <-changed:
		case <-ctx.Done():
			return Link{}, ls.why(tried)
		}
	}
}

// untried reports whether there is, or may be, a server that was not tried.
func (ls *Links) untried(tried *Tried) bool {
	all := *ls.all.Load()
	return len(all) == 0 || slices.ContainsFunc(all, func(s *server) bool { return !tried.has(s) })
}

// untrusted is an error if no server will do for as long as nobody gives it, or this
// client, another key. To wait for that is no help to a peer.
func (ls *Links) untrusted(tried *Tried) (err error) {
	for _, s := range *ls.all.Load() {
		if tried.has(s) {
			continue
		}
		s.mu.Lock()
		failed := s.failed
		s.mu.Unlock()
		if s.best.Load() != nil || !errors.Is(failed, auth.ErrUntrusted) {
			return nil
		}
		err = fmt.Errorf("server %s: %w", s.name, failed)
	}
	return err
}

// Ailing is why no server is in use, and nil if one is.
func (ls *Links) Ailing() error {
	for _, s := range *ls.all.Load() {
		if s.best.Load() != nil {
			return nil
		}
	}
	return ls.why(&Tried{})
}

// why tells why there is no server.
func (ls *Links) why(tried *Tried) error {
	for _, s := range *ls.all.Load() {
		if tried.has(s) {
			continue
		}
		s.mu.Lock()
		failed := s.failed
		s.mu.Unlock()
		switch {
		case failed != nil:
			return fmt.Errorf("server %s: %w", s.name, failed)
		case s.joined():
			return fmt.Errorf("server %s: it opens no link", s.name)
		}
	}
	if ls.cfg.Joined {
		return errors.New("none has dialled this client yet")
	}
	return errors.New("no server is known yet")
}
