package datagram

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/limit"
	"portredirector/internal/logging"
	"portredirector/internal/ports"
	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/track"
)

// Defaults of [Options].
const (
	DefaultTimeout        = 3 * time.Minute
	DefaultMost           = 16384
	DefaultMostUnanswered = 4096
	oneWayTimeout         = time.Minute
)

// Options are common to both ends.
type Options struct {
	Loops          int           // at least 1
	Timeout        time.Duration // ends a silent flow; one that was never answered after a minute, if that is less
	MostUnanswered int           // the most unanswered flows; the oldest is evicted
	Peers          *limit.Peers[netip.Prefix]
	Track          *track.Table
	Log            *slog.Logger
}

// udp returns a UDP port.
func udp(number uint16) ports.Port { return ports.Port{Protocol: ports.UDP, Number: number} }

// describer describes a flow for its record.
type describer interface {
	describe(f *flow, r *track.Record)
}

// engine is the common part of a Client and a Server.
type engine struct {
	Options

	loops    []*loop
	running  sync.WaitGroup
	shutdown sync.Once
	throttle logging.Throttle[netip.Prefix]

	next atomic.Uint32 // the loop of the next hub
	gone chan struct{} // gets an element when a flow has ended
}

// errNoAnswer ends a flow that was never answered.
var errNoAnswer = errors.New("no answer")

// start starts the loops of an end.
func (e *engine) start(o Options, of end) error {
	e.Options, e.gone = o, make(chan struct{}, 1)
	e.throttle.To = o.Log
	after := [stages]time.Duration{min(o.Timeout, oneWayTimeout), o.Timeout, o.Timeout}
	for i := range o.Loops {
		l, err := newLoop(of, i, after, o.Log)
		if err != nil {
			for _, l := range e.loops {
				l.poll.Close()
			}
			return err
		}
		e.loops = append(e.loops, l)
	}
	for _, l := range e.loops {
		e.running.Go(l.run)
	}
	return nil
}

// addHub registers a socket with a loop. The engine takes ownership of it.
func (e *engine) addHub(c *net.UDPConn) error {
	port := c.LocalAddr().(*net.UDPAddr).AddrPort().Port() //nolint:errcheck,forcetypeassert // a UDP socket's
	fd, is4, err := socket.DetachDatagrams(c)
	if err != nil {
		return err
	}
	l := e.loops[e.next.Add(1)%uint32(len(e.loops))] //nolint:gosec // loops are few
	l.mu.Lock()
	defer l.mu.Unlock()
	h := &hub{loop: l, fd: fd, is4: is4, port: port}
	if h.number, err = l.register(h, fd); err != nil {
		_ = unix.Close(fd)
		return err
	}
	l.hubs = append(l.hubs, h)
	return nil
}

// Counts returns the number of flows, and those that the bounds have refused.
func (e *engine) Counts() limit.Counts { return e.Peers.Counts() }

// enter admits a flow of a source. If there are too many flows, it may evict an older one.
func (e *engine) enter(l *loop, source netip.Prefix, port uint16) error {
	err := e.Peers.Enter(source)
	if errors.Is(err, limit.ErrAll) && e.makeRoom(l) {
		err = e.Peers.Enter(source)
	}
	if err != nil {
		e.tooMany(source, port, err)
		return err
	}
	if l.table.lists[unanswered].n*len(e.loops) >= e.MostUnanswered {
		e.evict(l.table.lists[unanswered].first)
	}
	return nil
}

// makeRoom evicts a flow of the loop, or of another loop that is not busy. It reports whether it did.
func (e *engine) makeRoom(l *loop) bool {
	if old := l.table.oldest(); old != nil {
		e.evict(old)
		return true
	}
	return slices.ContainsFunc(e.loops, func(other *loop) bool {
		if other == l || !other.mu.TryLock() { // two loops must not wait for each other
			return false
		}
		defer other.mu.Unlock()
		old := other.table.oldest()
		if old != nil {
			e.evict(old)
		}
		return old != nil
	})
}

// tooMany counts and logs that a flow of a source was refused by a bound.
func (e *engine) tooMany(source netip.Prefix, port uint16, err error) {
	e.Track.Refuse(udp(port), track.Code{Who: track.Limit, Phase: track.Queue})
	e.throttle.Log(slog.LevelWarn, "datagrams refused", source, func() []slog.Attr {
		return []slog.Attr{slog.Int("port", int(port)), slog.Any("error", err)}
	})
}

// evict ends a flow because there are too many. An unanswered flow leaves no record, because a flood may
// bring very many.
func (e *engine) evict(f *flow) {
	if f.stage == unanswered {
		e.Track.Forget(&f.record)
		e.Track.Refuse(udp(f.header.Destination.Port()), track.Code{Who: track.Limit, Phase: track.Connect})
		e.remove(f)
		return
	}
	e.finish(f, track.Limit, limit.ErrAll)
}

// expired ends a silent flow. Every served flow ends this way.
func (e *engine) expired(f *flow) {
	if f.stage == unanswered {
		e.finish(f, track.Service, errNoAnswer)
		return
	}
	e.finish(f, track.Nobody, nil)
}

// cut ends a flow that an operator has cut. The peer's next datagram begins another.
func (e *engine) cut(f *flow) { e.finish(f, track.Admin, relay.ErrClosed) }

// finish ends a flow and its record.
func (e *engine) finish(f *flow, by track.Who, err error) {
	if f.ended {
		return
	}
	e.remove(f)
	e.Track.End(&f.record, by, err)
}

// remove removes a flow.
func (e *engine) remove(f *flow) {
	if f.ended {
		return
	}
	f.ended = true
	f.disconnect()
	f.loop.table.delete(f)
	f.loop.end.removed(f)
	e.Peers.Leave(f.source())
	select {
	case e.gone <- struct{}{}:
	default:
	}
}

// Len returns the number of flows.
func (e *engine) Len() (n int) {
	for _, l := range e.loops {
		l.mu.Lock()
		n += len(l.table.byKey)
		l.mu.Unlock()
	}
	return n
}

// retiredTimeout is the silence that ends a flow after [engine.Retire]: the peer's next datagram is for
// another process.
const retiredTimeout = 10 * time.Second

// Retire stops reading from peers and links, because another process reads the sockets. Flows still carry
// answers, and end when these stop.
func (e *engine) Retire() {
	for _, l := range e.loops {
		l.mu.Lock()
		l.stopReading()
		l.after = [stages]time.Duration{retiredTimeout, retiredTimeout, retiredTimeout}
		l.mu.Unlock()
	}
}

// stopReading stops reading all hubs. The sockets stay open for answers.
func (l *loop) stopReading() {
	for _, h := range l.hubs {
		if !h.silent {
			h.silent = true
			l.poll.Remove(h.fd)
		}
	}
}

// Wait waits until there are no flows, and reports false if ctx is canceled before.
func (e *engine) Wait(ctx context.Context) bool {
	for e.Len() > 0 {
		select {
		case <-e.gone:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// lastAnswers is the time that Shutdown waits for answers.
const lastAnswers = 300 * time.Millisecond

// Shutdown stops reading, waits a moment for answers, and ends all flows.
func (e *engine) Shutdown(ctx context.Context) {
	e.shutdown.Do(func() { e.end(ctx) })
}

func (e *engine) end(ctx context.Context) {
	e.Retire()
	if e.Len() > 0 {
		select {
		case <-time.After(lastAnswers):
		case <-ctx.Done():
		}
	}
	for _, l := range e.loops {
		l.mu.Lock()
		for _, f := range l.table.byKey {
			e.finish(f, track.Admin, nil)
		}
		l.mu.Unlock()
		l.stop.Store(true)
		l.poll.Interrupt()
	}
	e.running.Wait()
	for _, l := range e.loops {
		for _, h := range l.hubs {
			_ = unix.Close(h.fd)
		}
		l.hubs = nil
	}
	e.throttle.Flush()
}
