package dtlslink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/backoff"
	"portredirector/internal/limit"
	"portredirector/internal/logging"
)

// Listener serves the links of a UDP socket. Its fields must be set before Serve.
type Listener struct {
	Auth    *auth.Acceptor
	Allow   func(netip.AddrPort) error // whether an address may have a link; nil is no rule
	Judge   func(auth.Identity) error  // whether the other end may have a link; also called while the link lasts
	Handler Handler

	Timeout    time.Duration // of the handshake
	KeepAlive  time.Duration // between pings of an idle link
	Handshakes *limit.Oldest[netip.Prefix]
	Log        *slog.Logger
	Throttle   *logging.Throttle[netip.Prefix] // for lines that strangers can cause

	conn       packetConn
	times      times
	tokens     *tokenMaker
	unknown    allowance // of the reader
	tasks      sync.WaitGroup
	mu         sync.RWMutex // guards the following fields
	byID       map[cid]*association
	byAddr     map[netip.AddrPort]*association // associations during their handshake
	byIdentity map[auth.Identity][]*Link       // the oldest first
}

// mostLinks is the most links of one identity. An identity has several links if an end was
// restarted, or if several ends share a key.
const mostLinks = 64

var errTooManyLinks = errors.New("the other end has opened too many links")

// association is a handshake or the resulting link.
type association struct {
	handshake *handshake
	slot      *limit.Entry[netip.Prefix] // of the handshake
	link      atomic.Pointer[Link]
	from      netip.AddrPort // of the handshake
	own       netip.Addr
}

// Serve accepts links until ctx is canceled, and then closes all. It takes ownership of the
// socket. When retire is canceled, it stops reading, because another process reads the socket.
// All links retire then, but still carry what this end sends.
func (l *Listener) Serve(ctx, retire context.Context, conn *net.UDPConn) error {
	s, err := newSocket(conn)
	if err != nil {
		_ = conn.Close()
		return fmt.Errorf("prepare the socket for links: %w", err)
	}
	l.serve(ctx, retire, s)
	return nil
}

func (l *Listener) serve(ctx, retire context.Context, conn packetConn) {
	l.conn, l.tokens = conn, newTokenMaker()
	if l.times == (times{}) {
		l.times = timesOf(l.KeepAlive)
	}
	l.byID, l.byAddr, l.byIdentity = make(map[cid]*association), make(map[netip.AddrPort]*association), make(map[auth.Identity][]*Link)
	ctx, cancel := context.WithCancel(ctx)
	var reader sync.WaitGroup
	reader.Go(func() { l.read(ctx) })
	select {
	case <-retire.Done():
		conn.stopReading()
		reader.Wait()
		l.retireAll()
		<-ctx.Done()
	case <-ctx.Done():
	}
	cancel()
	l.tasks.Wait()
	_ = conn.Close()
	reader.Wait()
}

// retireAll retires all links.
func (l *Listener) retireAll() {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, list := range l.byIdentity {
		for _, link := range list {
			link.Retire()
		}
	}
}

// read reads the socket until it is closed.
func (l *Listener) read(ctx context.Context) {
	retry := backoff.Backoff{Min: 10 * time.Millisecond, Max: time.Second}
	for {
		list, err := l.conn.receive()
		switch {
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
			return
		case err != nil && !errors.Is(err, ErrRefused):
			backoff.Sleep(ctx, retry.Next())
			continue
		}
		now := time.Now()
		for _, d := range list {
			l.dispatch(ctx, d, now)
		}
		l.Handler.Flush()
	}
}

// dispatch passes a datagram to its link or handshake.
func (l *Listener) dispatch(ctx context.Context, d datagram, now time.Time) {
	if len(d.b) == 0 {
		return
	}
	switch first := d.b[0]; {
	case first == typeCID && len(d.b) >= recordOverhead:
		l.record(d, now)
	case first >= 20 && first < typeCID:
		l.mu.RLock()
		a := l.byAddr[d.peer]
		l.mu.RUnlock()
		if a != nil {
			a.handshake.pipe.put(d.b)
		}
	case first == kindAsk && len(d.b) >= askSize:
		l.sendToken(d, now)
	case first == kindHello && len(d.b) > helloHead:
		if !l.tokens.valid(token(d.b[1:]), d.peer, now) {
			l.sendToken(d, now)
			return
		}
		if a := l.begin(ctx, d); a != nil {
			a.handshake.pipe.put(d.b[helloHead:])
		}
	}
}

// record passes a record to its link or unfinished handshake.
func (l *Listener) record(d datagram, now time.Time) {
	l.mu.RLock()
	a := l.byID[cid(d.b[cidAt:])]
	l.mu.RUnlock()
	if a == nil {
		if l.unknown.take(now) {
			b := append([]byte{kindUnknown}, d.b[cidAt:cidAt+cidSize]...)
			l.conn.send([]datagram{{b, d.peer, d.own}})
		}
		return
	}
	if link := a.link.Load(); link != nil {
		link.receive(d, now)
		return
	}
	a.handshake.pipe.put(d.b)
}

func (l *Listener) sendToken(d datagram, now time.Time) {
	t := l.tokens.make(d.peer, now)
	l.conn.send([]datagram{{append([]byte{kindToken}, t[:]...), d.peer, d.own}})
}

// begin returns the handshake with an address, and starts one if need be.
func (l *Listener) begin(ctx context.Context, d datagram) *association {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.byAddr[d.peer]; a != nil {
		return a
	}
	with, err := l.Auth.Datagram()
	if err == nil && l.Allow != nil {
		err = l.Allow(d.peer)
	}
	if err != nil || ctx.Err() != nil {
		l.refuse(ctx, d.peer, err)
		return nil
	}
	a := &association{from: d.peer, own: d.own}
	a.slot, _ = l.Handshakes.Add(limit.SourcePrefix(d.peer.Addr()))
	a.handshake = newHandshake(with, func(b []byte) { l.conn.send([]datagram{{b, a.from, a.own}}) })
	l.byAddr[d.peer], l.byID[a.handshake.own] = a, a
	l.tasks.Go(func() { l.accept(ctx, a) })
	return a
}

// accept runs a handshake and then the resulting link.
func (l *Listener) accept(ctx context.Context, a *association) {
	k, err := l.handshake(ctx, a)
	if err != nil {
		l.remove(a)
		l.refuse(ctx, a.from, err)
		return
	}
	link := newLink(a.handshake, k, &Link{
		name: a.from.String(), handler: l.Handler, conn: l.conn, times: l.times, judge: l.Judge,
		allow: func(at netip.AddrPort) bool { return l.allows(ctx, at) },
		peer:  a.from, own: a.own, onOpen: func() { l.forgetAddr(a) },
		onEnd: func(link *Link) { l.removeLink(a, link) },
	})
	l.addLink(link)
	a.link.Store(link)
	link.maintain(ctx)
}

// allows reports whether a link may move to an address.
func (l *Listener) allows(ctx context.Context, at netip.AddrPort) bool {
	if l.Allow == nil {
		return true
	}
	err := l.Allow(at)
	if err != nil {
		l.refuse(ctx, at, err)
	}
	return err == nil
}

// refuse logs the reason for refusing a link.
func (l *Listener) refuse(ctx context.Context, from netip.AddrPort, err error) {
	if ctx.Err() != nil {
		return
	}
	l.Throttle.Log(slog.LevelWarn, "link for UDP refused", limit.SourcePrefix(from.Addr()), func() []slog.Attr {
		return []slog.Attr{slog.String("link", from.String()), slog.Any("error", err)}
	})
}

// handshake runs a handshake within the limits.
func (l *Listener) handshake(ctx context.Context, a *association) (keys, error) {
	defer a.slot.Over()
	ctx, cancel := context.WithTimeoutCause(ctx, l.Timeout, auth.ErrTooSlow)
	defer cancel()
	ctx, evict := context.WithCancelCause(ctx)
	defer evict(nil)
	a.slot.Began(func() { evict(auth.ErrEvicted) })
	return a.handshake.accept(ctx, l.Judge)
}

// addLink adds a link to those of its identity. If there are too many, the oldest ends.
func (l *Listener) addLink(link *Link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := append(l.byIdentity[link.identity], link)
	l.byIdentity[link.identity] = list
	if len(list) > mostLinks {
		list[0].fail(errTooManyLinks)
	}
}

// forgetAddr forgets the address of an association, which from now on is found by connection id.
func (l *Listener) forgetAddr(a *association) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byAddr[a.from] == a {
		delete(l.byAddr, a.from)
	}
}

// remove forgets an association.
func (l *Listener) remove(a *association) {
	l.forgetAddr(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.byID, a.handshake.own)
}

// removeLink forgets an association that has become a link.
func (l *Listener) removeLink(a *association, link *Link) {
	l.remove(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	list := slices.DeleteFunc(l.byIdentity[link.identity], func(one *Link) bool { return one == link })
	if len(list) == 0 {
		delete(l.byIdentity, link.identity)
		return
	}
	l.byIdentity[link.identity] = list
}

// allowance limits the rate of answers to strangers.
type allowance struct {
	since time.Time
	n     int
}

// mostUnknown is the most answers a second.
const mostUnknown = 100

// take reports whether another answer may be sent.
func (a *allowance) take(now time.Time) bool {
	if now.Sub(a.since) > time.Second {
		a.since, a.n = now, 0
	}
	a.n++
	return a.n <= mostUnknown
}
