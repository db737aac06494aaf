// Package server takes links from clients and reaches services with the
// peers' addresses as the source.
//
// A link goes through three steps: its header is read, the service of its port
// is dialled transparently, and both sockets are handed to the relay. All of it
// happens on the relay's loops and waits for nothing, unless a name has to be
// resolved or a return route set up: that is done on a goroutine.
package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"syscall"
	"time"

	"portredirector/internal/header"
	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/transparent"
)

// Server is the server's end of any number of links. Its fields must be set
// before the first Handle.
type Server struct {
	Services map[uint16]Service // by the port that peers connect to
	Names    Resolver           // for services with a host name
	Dialer   *transparent.Dialer
	Relay    *relay.Engine
	Routes   Routes
	Log      *slog.Logger

	HeaderTimeout  time.Duration // for the whole header, once it has begun
	ConnectTimeout time.Duration // for reaching the service, names included

	// MaxSilent is how many links may wait in silence, and MaxSilentPerClient how many
	// of those from one IPv4 address or IPv6 /64. Beyond, the oldest is ended.
	MaxSilent, MaxSilentPerClient int

	silent silents
}

// Routes are the return routes. A *returnroute.Manager is that.
type Routes interface {
	// Ready gives the mark of a dial to an address, if its return route is there.
	Ready(service netip.Addr) (mark uint32, ok bool)
	// Mark does so too, and sees to the return route first.
	Mark(ctx context.Context, service netip.Addr) (mark uint32, err error)
}

// errNoHeader is the end of a link that said too little for too long.
var errNoHeader = errors.New("no whole header in time")

// errDraining refuses a header that comes after the drain began.
var errDraining = errors.New("draining")

// Handle serves a link that was accepted, and owns it. It is called on a loop of
// the relay, and does not wait.
//
// A link that says nothing has been opened ahead of need, and may wait for its peer
// as long as it likes; or it is nobody's. See silent.go.
func (s *Server) Handle(link int, from netip.AddrPort) {
	waits := s.silent.add(s, from)
	opened := s.Relay.Open(relay.Opening{
		Accepted: link, Timeout: s.HeaderTimeout,
		Hear: func(said []byte) (relay.Next, error) {
			waits.over()
			return s.next(said, from)
		},
		Silent: func(ctx context.Context, link int) {
			waits.over()
			s.dismiss(ctx, link)
		},
		Gone: func(err error) {
			s.logHeader(from, err, waits.over())
		},
	})
	waits.began(opened.Retire)
}

// next says what becomes of a link that has said so much, once its header is
// there.
func (s *Server) next(said []byte, from netip.AddrPort) (relay.Next, error) {
	there := bytes.NewReader(said)
	h, form, err := header.Read(there)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return relay.Next{}, nil // there is more to come
	case err != nil:
		return relay.Next{}, err
	}
	c := &conn{server: s, header: h, form: form, from: from, head: bytes.Clone(said[len(said)-there.Len():])}
	switch {
	case h.Local:
		return relay.Next{Release: c.healthCheck}, nil
	case h.Source == from:
		return relay.Next{Release: c.ofItself}, nil
	}
	return c.next()
}

// conn is one link on its way to a service.
type conn struct {
	server *Server
	header header.Header
	form   header.Form
	from   netip.AddrPort // the client's end of the link
	head   []byte         // what came behind the header

	service  Service
	addrs    []netip.Addr // of the service, those that were not tried yet
	deadline time.Time    // of reaching it
}

// healthCheck is for a load balancer, which wants to see that we are here.
func (c *conn) healthCheck(_ context.Context, link int) {
	c.server.Log.Debug("health check", slog.Any("link", c.from))
	if c.header.Answer {
		_ = socket.Send(link, []byte{byte(header.Connected)})
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
	case next.Release != nil:
		next.Release(ctx, link)
	default:
		next.Pair.Accepted = link
		c.server.Relay.Relay(*next.Pair)
	}
}

// next says what follows on the header.
func (c *conn) next() (relay.Next, error) {
	s := c.server
	refuse := func(err error) (relay.Next, error) {
		return relay.Next{Release: func(ctx context.Context, link int) { c.refuse(ctx, link, err) }}, nil
	}
	if s.Relay.Draining() {
		return refuse(errDraining)
	}
	var ok bool
	if c.service, ok = s.Services[c.header.Destination.Port()]; !ok {
		return refuse(ErrNoService)
	}
	c.deadline = time.Now().Add(s.ConnectTimeout)
	addr, literal, err := c.service.literal(c.header.Source.Addr())
	if err != nil {
		return refuse(fmt.Errorf("service %s: %w", c.service, err))
	}
	mark, ready := s.Routes.Ready(addr)
	if !literal || !ready {
		return relay.Next{Release: c.resolve}, nil
	}
	p, err := c.dial(addr, mark)
	if err != nil {
		return refuse(err)
	}
	return relay.Next{Pair: p}, nil
}

// resolve finds the addresses of the service, and tries them.
func (c *conn) resolve(ctx context.Context, link int) {
	rctx, cancel := context.WithDeadline(ctx, c.deadline)
	defer cancel()
	addrs, err := c.service.addresses(rctx, c.server.Names, c.header.Source.Addr())
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
		addr := c.addrs[0]
		c.addrs = c.addrs[1:]
		var mark uint32
		mctx, cancel := context.WithDeadline(ctx, c.deadline)
		mark, err = c.server.Routes.Mark(mctx, addr)
		cancel()
		if err != nil {
			continue
		}
		var p *relay.Pair
		if p, err = c.dial(addr, mark); err == nil {
			p.Accepted = link
			c.server.Relay.Relay(*p)
			return
		}
	}
	if err == nil {
		err = context.DeadlineExceeded
	}
	c.refuse(ctx, link, err)
}

// dial begins to dial an address of the service. The pair lacks the link.
func (c *conn) dial(addr netip.Addr, mark uint32) (*relay.Pair, error) {
	service := netip.AddrPortFrom(addr, c.service.Port)
	fd, rung, err := c.server.Dialer.Connect(c.header.Source, service, mark)
	if err != nil {
		return nil, fmt.Errorf("dial service: %w", err)
	}
	if rung == transparent.AnyPort {
		c.log(slog.LevelInfo, "the peer's ip:port is taken, on this machine or at the service, using another port of its address",
			slog.Any("source", socket.Local(fd)), slog.Any("service", service))
	}
	c.log(slog.LevelDebug, "peer connects", slog.Any("link", c.from), slog.Any("service", service), slog.Any("form", c.form))
	p := &relay.Pair{
		Dialled: fd, Head: c.head, Done: c.gone,
		// Each address gets an equal share of the time that is left.
		ConnectTimeout: max(time.Until(c.deadline)/time.Duration(len(c.addrs)+1), time.Millisecond),
		Undelivered: func(ctx context.Context, u relay.Undelivered) {
			c.try(ctx, u.Accepted, fmt.Errorf("dial service %s: %w", service, u.Err))
		},
	}
	if c.header.Answer {
		p.Greeting = []byte{byte(header.Connected)}
	}
	return p, nil
}

// gone tells the end of a peer.
func (c *conn) gone(r relay.Result) {
	if r.End == relay.Failed {
		c.log(slog.LevelError, "relay failed", slog.Any("error", r.Err))
		return
	}
	c.log(slog.LevelDebug, "peer gone", slog.Any("result", r))
}

// log logs an event of a peer. Attributes are made only for lines that are
// written: most peers leave none.
func (c *conn) log(level slog.Level, event string, more ...slog.Attr) {
	log, h := c.server.Log, c.header
	if !log.Enabled(context.Background(), level) {
		return
	}
	attrs := []slog.Attr{slog.String("peer", h.Source.String()), slog.Int("port", int(h.Destination.Port()))}
	if !h.ID.IsZero() {
		attrs = append(attrs, slog.String("id", h.ID.String()))
	}
	log.LogAttrs(context.Background(), level, event, append(attrs, more...)...) //nolint:sloglint // a constant of the callers
}

// logHeader tells of a link that brought no header. One that ends in silence is of a
// pool, or an ordinary port probe.
func (s *Server) logHeader(from netip.AddrPort, err error, silent bool) {
	level := slog.LevelWarn
	if silent || errors.Is(err, relay.ErrCut) || errors.Is(err, syscall.ECONNRESET) {
		level = slog.LevelDebug
	}
	if errors.Is(err, relay.ErrTimeout) {
		err = errNoHeader
	}
	s.Log.Log(context.Background(), level, "link refused", slog.String("link", from.String()), slog.Any("error", err))
}
