package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"portredirector/internal/ports"
	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/wire"
)

// errLater is returned by a dial that would have to block.
var errLater = errors.New("not now")

// dialNow starts to dial the service, or returns errLater.
func (c *conn) dialNow() (*relay.Pair, error) {
	c.deadline = time.Now().Add(c.server.ConnectTimeout)
	addrs, ok, err := c.server.Book.now(c.service, c.header.Source.Addr())
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", c.service, err)
	}
	if !ok {
		return nil, errLater
	}
	service := c.server.Book.target(ports.TCP, c.service, addrs[0])
	mark, ready := c.server.Routes.Ready(ports.TCP.At(service))
	if !ready {
		return nil, errLater
	}
	c.addrs = addrs[1:]
	p, err := c.dial(service, mark)
	if err != nil && len(c.addrs) > 0 {
		c.failed(err)
		return nil, errLater
	}
	return p, err
}

// resolve finds the addresses of the service, and dials them.
func (c *conn) resolve(ctx context.Context, link int) {
	if err := c.lookUp(ctx); err != nil {
		c.refuse(ctx, link, err)
		return
	}
	c.try(ctx, link, nil)
}

// lookUp sets c.addrs.
func (c *conn) lookUp(ctx context.Context) (err error) {
	ctx, cancel := context.WithDeadline(ctx, c.deadline)
	defer cancel()
	if c.addrs, err = c.server.Book.addresses(ctx, c.service, c.header.Source.Addr()); err != nil {
		return fmt.Errorf("service %s: %w", c.service, err)
	}
	return nil
}

// try dials the next address of the service. The last dial ended with err.
func (c *conn) try(ctx context.Context, link int, err error) {
	for c.more(ctx, err) && ctx.Err() == nil {
		addr := c.addrs[0]
		service := c.server.Book.target(ports.TCP, c.service, addr)
		c.addrs = c.addrs[1:]
		var mark uint32
		mctx, cancel := context.WithDeadline(ctx, c.deadline)
		mark, err = c.server.Routes.Mark(mctx, ports.TCP.At(service))
		cancel()
		var p *relay.Pair
		if err == nil {
			p, err = c.dial(service, mark)
		} else {
			err = fmt.Errorf("%w: %w", errNoRoute, err)
		}
		if err == nil {
			c.relay(link, p)
			return
		}
		c.record.Update(func() { c.addr = addr })
		c.failed(err)
	}
	if err == nil {
		err = context.DeadlineExceeded
	}
	c.refuse(ctx, link, err)
}

// more reports whether there is an address to dial. When all known ones have failed,
// the service may have moved, and its name is looked up once more.
func (c *conn) more(ctx context.Context, err error) bool {
	if len(c.addrs) > 0 || c.asked || err == nil || !c.service.named() {
		return len(c.addrs) > 0
	}
	c.asked = true
	actx, cancel := context.WithDeadline(ctx, c.deadline)
	defer cancel()
	c.server.Book.Names.askAgain(actx, c.question())
	if c.lookUp(ctx) != nil {
		return false
	}
	c.addrs = slices.DeleteFunc(slices.Clone(c.addrs), func(a netip.Addr) bool { return slices.Contains(c.tried, a) })
	return len(c.addrs) > 0
}

// dial starts to dial an address of the service. The pair lacks the link.
func (c *conn) dial(service netip.AddrPort, mark uint32) (*relay.Pair, error) {
	c.server.Track.Linked(&c.record, func() { c.addr = service.Addr() })
	if claims := c.server.Claims; claims != nil {
		if err := claims.CheckService(c.header.Source.Addr(), c.addr); err != nil {
			return nil, err
		}
	}
	fd, rung, err := c.server.Dialer.Connect(c.header.Source, service, mark)
	if err != nil {
		return nil, fmt.Errorf("dial service: %w", err)
	}
	if rung == socket.AnyPort {
		c.record.Update(func() { c.port = socket.Local(fd).Port() })
		c.log(slog.LevelInfo, "the peer's ip:port is taken, on this machine or at the service, or is not permitted, using another port of its address",
			slog.Any("source", socket.Local(fd)), slog.Any("address", service))
	}
	c.debug("peer connects", slog.Any("link", c.from), slog.Any("address", service), slog.Any("form", c.form))
	attempt := c.attempt
	p := &relay.Pair{
		Dialed: fd, Peeked: c.head, Done: c.ended, Meter: &c.record.Meter,
		ConnectTimeout: c.timeout(),
		OnUndelivered: func(ctx context.Context, u relay.Undelivered) {
			c.attempt = attempt
			c.failed(u.Err)
			c.try(ctx, u.Accepted, fmt.Errorf("dial service %s: %w", service, u.Err))
		},
	}
	if c.header.Answer {
		p.Framed, p.OnFree = relay.AcceptedLink, c.server.listenAgain(c.from)
		p.DownPrefix = wire.AppendFrame(nil, wire.KindStatus, byte(wire.Connected))
	}
	c.attempt = nil
	return p, nil
}

// tryTimeout bounds a dial while there are other addresses: two SYNs, and some time for
// an answer.
const tryTimeout = 3 * time.Second

// timeout returns the time for the next dial: an equal share of what is left.
func (c *conn) timeout() time.Duration {
	share := time.Until(c.deadline) / time.Duration(len(c.addrs)+1)
	if len(c.addrs) > 0 {
		share = min(share, tryTimeout)
	}
	return max(share, time.Millisecond)
}

// ended notes whether the address worked, and that its peer is gone.
func (c *conn) ended(r relay.Result) {
	if r.Down > 0 && c.service.named() {
		c.server.Book.Names.works(c.question(), c.addr)
	}
	c.gone(r)
}

// failed notes that the address did not work for this peer, and if err is a failure of
// the address and not of the peer, for others as well.
func (c *conn) failed(err error) {
	if !c.service.named() {
		return
	}
	c.tried = append(c.tried, c.addr)
	for _, e := range []error{
		errNoRoute, relay.ErrTimeout,
		syscall.ECONNREFUSED, syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ENETDOWN,
	} {
		if errors.Is(err, e) {
			c.server.Book.Names.failed(c.question(), c.addr)
			return
		}
	}
}

func (c *conn) question() question { return c.service.question(c.header.Source.Addr()) }
