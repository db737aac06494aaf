// Package server takes links from clients and reaches services with the
// peers' addresses as the source.
//
// A link goes through these steps: who opened it may have to prove who it is, its header
// is read, what it asks for has to be allowed, the service of its port is dialled
// transparently, and both sockets are handed to the relay. All of it happens on the
// relay's loops and waits for nothing, unless there is a proof, a name has to be resolved,
// or a return route set up: that is done on a goroutine.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/wire"
)

// conn is one link on its way to a service.
type conn struct {
	server *Server
	header wire.Header
	form   wire.Form
	from   *sender
	head   []byte // what came behind the header
	inside bool   // it is one of Server.Peers

	service  Service
	addrs    []netip.Addr // of the service, those that were not tried yet
	deadline time.Time    // of reaching it
}

// healthCheck is for a load balancer, which wants to see that we are here.
func (c *conn) healthCheck(_ context.Context, link int) {
	c.server.Log.Debug("health check", slog.Any("link", c.from))
	if c.header.Answer {
		_ = c.from.sayLast(link, wire.Connected)
	}
	socket.Close(link)
}

// ofItself is for a link whose header claims its own address. HAProxy's health
// checks with send-proxy do, and name their own destination, too.
func (c *conn) ofItself(ctx context.Context, link int) {
	if socket.Local(link) == c.header.Destination {
		c.healthCheck(ctx, link)
		return
	}
	switch next, err := c.next(); {
	case err != nil:
		c.refuse(ctx, link, err)
	case next.HandOver != nil:
		next.HandOver(ctx, link)
	default:
		c.relay(link, next.Pair)
	}
}

// relay hands both sockets over.
func (c *conn) relay(link int, p *relay.Pair) {
	p.Accepted, p.AcceptedLayer = link, c.from.layer
	c.server.Relay.Relay(*p)
}

// next says what follows on the header.
func (c *conn) next() (relay.Next, error) {
	err := c.admit()
	var p *relay.Pair
	if err == nil {
		if p, err = c.dialNow(); errors.Is(err, errLater) {
			return relay.Next{HandOver: c.resolve}, nil
		}
	}
	if err != nil {
		return relay.Next{HandOver: func(ctx context.Context, link int) { c.refuse(ctx, link, err) }}, nil
	}
	return relay.Next{Pair: p}, nil
}

// admit decides whether the peer may come in, and finds its service.
func (c *conn) admit() error {
	s, h := c.server, c.header
	if s.Relay.Draining() {
		return errDraining
	}
	if err := s.authorise(c.from, h); err != nil {
		return err
	}
	var ok bool
	if c.service, ok = s.Services[h.Destination.Port()]; !ok {
		return ErrNoService
	}
	if s.Claims != nil {
		if err := s.Claims.Judge(h.Source.Addr()); err != nil {
			return err
		}
	}
	err := s.Peers.Enter(c.from.origin)
	c.inside = err == nil
	return err
}

// errLater is of a dial that would have to wait for something first.
var errLater = errors.New("not now")

// dialNow begins to dial the service, if that needs no waiting.
func (c *conn) dialNow() (*relay.Pair, error) {
	c.deadline = time.Now().Add(c.server.ConnectTimeout)
	addr, known, err := c.server.Book.known(c.service, c.header.Source.Addr())
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", c.service, err)
	}
	if !known {
		return nil, errLater
	}
	service := netip.AddrPortFrom(addr, c.service.Port)
	mark, ready := c.server.Routes.Ready(service)
	if !ready {
		return nil, errLater
	}
	return c.dial(service, mark)
}

// resolve finds the addresses of the service, and tries them.
func (c *conn) resolve(ctx context.Context, link int) {
	rctx, cancel := context.WithDeadline(ctx, c.deadline)
	defer cancel()
	addrs, err := c.server.Book.addresses(rctx, c.service, c.header.Source.Addr())
	if err != nil {
		c.refuse(ctx, link, fmt.Errorf("service %s: %w", c.service, err))
		return
	}
	c.addrs = addrs
	c.try(ctx, link, nil)
}

// try tries the next address of the service, after err at the last. Of several
// the first that answers is taken.
func (c *conn) try(ctx context.Context, link int, err error) {
	for len(c.addrs) > 0 && ctx.Err() == nil {
		service := netip.AddrPortFrom(c.addrs[0], c.service.Port)
		c.addrs = c.addrs[1:]
		var mark uint32
		mctx, cancel := context.WithDeadline(ctx, c.deadline)
		mark, err = c.server.Routes.Mark(mctx, service)
		cancel()
		if err != nil {
			continue
		}
		var p *relay.Pair
		if p, err = c.dial(service, mark); err == nil {
			c.relay(link, p)
			return
		}
	}
	if err == nil {
		err = context.DeadlineExceeded
	}
	c.refuse(ctx, link, err)
}

// dial begins to dial an address of the service. The pair lacks the link.
func (c *conn) dial(service netip.AddrPort, mark uint32) (*relay.Pair, error) {
	fd, rung, err := c.server.Dialer.Connect(c.header.Source, service, mark)
	if err != nil {
		return nil, fmt.Errorf("dial service: %w", err)
	}
	if rung == socket.AnyPort {
		c.tell(slog.LevelInfo, "the peer's ip:port is taken, on this machine or at the service, or is not permitted, using another port of its address",
			slog.Any("source", socket.Local(fd)), slog.Any("service", service))
	}
	c.debug("peer connects", slog.Any("link", c.from), slog.Any("service", service), slog.Any("form", c.form))
	p := &relay.Pair{
		Dialed: fd, Peeked: c.head, Done: c.gone,
		// Each address gets an equal share of the time that is left.
		ConnectTimeout: max(time.Until(c.deadline)/time.Duration(len(c.addrs)+1), time.Millisecond),
		OnUndelivered: func(ctx context.Context, u relay.Undelivered) {
			c.try(ctx, u.Accepted, fmt.Errorf("dial service %s: %w", service, u.Err))
		},
	}
	if c.header.Answer {
		p.DownPrefix = []byte{byte(wire.Connected)}
	}
	return p, nil
}

// gone tells the end of a peer.
func (c *conn) gone(r relay.Result) {
	c.leave()
	if r.End == relay.Failed {
		c.tell(slog.LevelError, "relay failed", slog.Any("error", r.Err))
		return
	}
	c.debug("peer gone", slog.Any("result", r))
}

// leave is the end of its being one of the server's peers.
func (c *conn) leave() {
	if c.inside {
		c.inside = false
		c.server.Peers.Leave(c.from.origin)
	}
}

// debug logs what most peers do. Attributes are made only for lines that are written.
func (c *conn) debug(event string, more ...slog.Attr) {
	if log := c.server.Log; log.Enabled(context.Background(), slog.LevelDebug) {
		log.LogAttrs(context.Background(), slog.LevelDebug, event, c.attrs(more)...) //nolint:sloglint // a constant of the callers
	}
}

// tell logs one that may come as often as somebody likes.
func (c *conn) tell(level slog.Level, event string, more ...slog.Attr) {
	c.server.Tell.Log(level, event, Subject{Net: c.from.where()}, func() []slog.Attr { return c.attrs(more) })
}

func (c *conn) attrs(more []slog.Attr) []slog.Attr {
	h := c.header
	attrs := []slog.Attr{slog.String("peer", h.Source.String()), slog.Int("port", int(h.Destination.Port()))}
	if !h.ID.IsZero() {
		attrs = append(attrs, slog.String("id", h.ID.String()))
	}
	return append(attrs, more...)
}
