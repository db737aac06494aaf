package upstream

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/dial"
)

// Config describes the servers of a client and the links to them.
type Config struct {
	// Servers are "host:port", or "srv:name" for the targets of SRV records. There is at
	// least one, unless Reverse is set.
	Servers []string
	// Reverse lets servers attach themselves, see [Servers.Attach].
	Reverse bool
	Balance Balance
	// PoolMin and PoolMax bound the number of idle links to each server. There are none if
	// PoolMax is 0.
	PoolMin, PoolMax int
	// LinkIdle is the time after which an idle link is closed, unless the pool would open
	// another in its place; 0 is never. Links that a server has opened are closed by the
	// server.
	LinkIdle time.Duration
	// Beside, if set, runs for each server that this client dials, until ctx is canceled.
	Beside func(ctx context.Context, d Dialed)
	// Answers tells that servers answer each header. The answers show that a server works;
	// of other servers only the connection does.
	Answers bool
	// Auth authenticates servers; nil is plain links.
	Auth           *auth.Dialer
	ConnectTimeout time.Duration       // of one link
	KeepAlive      net.KeepAliveConfig // of links that are in use, which the relay sets
	Heartbeat      time.Duration       // of idle links that a server has opened
	Congestion     *dial.Congestion    // of links; nil is the system's
	Resolver       dial.Resolver       // nil is that of the system
	Log            *slog.Logger
}

// Dialed describes a server that this client dials.
type Dialed struct {
	Name  string
	Host  string // for its certificate
	Addrs func(context.Context) ([]netip.AddrPort, error)
}

// Servers are the servers of a client. New makes them. Most of their work is done by Run.
type Servers struct {
	cfg   Config
	start time.Time
	dial  *dial.Dialer // sets no keepalive: the relay does for links in use, the pool for others

	groups []*group
	queue  queue

	all     atomic.Pointer[[]*server] // those of the groups in their order, then the attached
	turns   sync.Mutex                // guards server.current, priority and weight
	waiting atomic.Int64              // peers in Wait

	mu       sync.Mutex
	attached []*server     // guarded by mu
	changed  chan struct{} // closed when a server comes back; guarded by mu

	tasks sync.WaitGroup // of Run
}

// New makes servers. A peer can have a link at once to each that is given by address.
func New(cfg Config) *Servers {
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	ss := &Servers{
		cfg: cfg, start: time.Now(), changed: make(chan struct{}),
		dial: &dial.Dialer{Congestion: cfg.Congestion},
	}
	if !cfg.Answers {
		ss.dial.Ports = dial.ReadPorts() // such servers take a connection for each peer
	}
	for _, name := range cfg.Servers {
		ss.groups = append(ss.groups, newGroup(ss, name))
	}
	ss.publish()
	return ss
}

// Run does all that peers must not wait for, until ctx is canceled. Then it closes the
// links that nobody has taken.
func (ss *Servers) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer ss.tasks.Wait()
	defer cancel()
	for _, g := range ss.groups {
		g.start(ctx)
	}
	if !ss.pooling() && !ss.queues() && !ss.cfg.Answers {
		<-ctx.Done()
		return nil
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		for _, s := range *ss.all.Load() {
			s.source.maintain()
		}
		ss.demand()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// publish lets peers see which servers there are.
func (ss *Servers) publish() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	var all []*server
	for _, g := range ss.groups {
		all = append(all, g.servers...)
	}
	all = append(all, ss.attached...)
	ss.all.Store(&all)
}

// announce wakes the peers that wait for a server.
func (ss *Servers) announce() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	close(ss.changed)
	ss.changed = make(chan struct{})
}

// changes returns a channel that is closed when a server comes, or an attached one goes.
func (ss *Servers) changes() <-chan struct{} {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.changed
}

// clock returns the time since the start in nanoseconds. It is monotonic.
func (ss *Servers) clock() int64 { return int64(time.Since(ss.start)) }

func (ss *Servers) pooling() bool { return ss.cfg.PoolMax > 0 }

// queues reports whether there can be peers in the queue.
func (ss *Servers) queues() bool { return ss.cfg.Reverse || ss.cfg.Auth != nil }

// tryTimeout bounds an attempt if there is something else to try. It allows for two SYNs
// and some time for an answer.
const tryTimeout = 3 * time.Second

// timeout returns how long a link to s may take to connect. It is shorter if there is
// something else to try.
func (ss *Servers) timeout(s *server) time.Duration {
	if len(*ss.all.Load()) > 1 || s.several.Load() {
		return min(tryTimeout, ss.cfg.ConnectTimeout)
	}
	return ss.cfg.ConnectTimeout
}
