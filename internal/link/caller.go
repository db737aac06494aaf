package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/socket"
)

// Callers open links to clients, for a server that these cannot reach. Their fields must
// be set before Run.
type Callers struct {
	Clients []string // where they listen, "host:port"
	Secure  *auth.Dialer
	// Take is given a link to a client that a peer may come over from now on, and owns its
	// socket.
	Take func(s *auth.Session, client netip.AddrPort)

	ConnectTimeout time.Duration // for one link
	Heartbeat      time.Duration // of the control stream, and of links that no peer has
	Resolver       Resolver      // nil is the system's
	Log            *slog.Logger

	dialer  *dialer
	reached atomic.Int64 // clients
}

const (
	// maxRedial is the longest pause before a client is dialled again: peers may wait
	// there, of which this end knows nothing.
	maxRedial = 5 * time.Second
	// steady is how long a stream has to live for the next to be dialled without a
	// longer pause. Another server with the same key could take its place at once.
	steady = 10 * time.Second
)

// mostOrdered bounds the links that a client may have asked for and that are not there.
const mostOrdered = 1 << 16

// Run keeps up with all clients, until ctx ends. The links that Take was given live on.
func (c *Callers) Run(ctx context.Context) {
	c.begin()
	var callers sync.WaitGroup
	for _, name := range c.Clients {
		callers.Go(func() { (&caller{Callers: c, name: name}).run(ctx) })
	}
	callers.Wait()
}

// Ailing is why no client is reached, and nil if one is, or there are none.
func (c *Callers) Ailing() error {
	if len(c.Clients) == 0 || c.reached.Load() > 0 {
		return nil
	}
	return fmt.Errorf("no client is reached: %s", strings.Join(c.Clients, " "))
}

// Visit opens a stream to a client, for as long as do takes.
func (c *Callers) Visit(ctx context.Context, name string, purpose auth.Purpose, do func(*auth.Stream) error) error {
	c.begin()
	ctx, cancel := context.WithTimeout(ctx, c.ConnectTimeout)
	defer cancel()
	s, _, err := (&caller{Callers: c, name: name}).call(ctx, purpose)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	return do(s)
}

func (c *Callers) begin() {
	if c.Resolver == nil {
		c.Resolver = net.DefaultResolver
	}
	c.dialer = &dialer{alive: heartbeat(c.Heartbeat), ports: newPorts()}
}

// caller opens links to one client.
type caller struct {
	*Callers
	name string
	told bool // that it cannot be reached

	refuses atomic.Bool // it was told that it takes no links of ours
}

// run dials the client again and again.
func (c *caller) run(ctx context.Context) {
	log := c.Log.With(slog.String("client", c.name))
	for pause := minBackOff; ; pause = min(2*pause, maxRedial) {
		stream, at, err := c.call(ctx, auth.Control)
		if err == nil {
			log.Info("client is reached, it may ask for links", slog.String("at", at.String()))
			c.told = false
			c.refuses.Store(false)
			began := time.Now()
			c.reached.Add(1)
			err = c.serve(ctx, stream, at)
			c.reached.Add(-1)
			if time.Since(began) > steady {
				pause = minBackOff
			}
		}
		if ctx.Err() != nil {
			return
		}
		if !c.told {
			c.told = true
			log.Warn("client cannot be reached, trying again", slog.Any("error", err))
		}
		select {
		case <-time.After(pause/2 + rand.N(pause/2)): //nolint:gosec // no secret
		case <-ctx.Done():
			return
		}
	}
}

// call opens a stream.
func (c *caller) call(ctx context.Context, purpose auth.Purpose) (*auth.Stream, netip.AddrPort, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.ConnectTimeout, errStuck)
	defer cancel()
	host, port, err := splitHostPort(c.name)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	addrs, err := addressesOf(ctx, c.Resolver, host, port)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	fd, at, err := race(ctx, c.dialer, addrs)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	s, err := c.secure(ctx, fd, purpose)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	if err := s.Stream.EndAfter(c.Heartbeat); err != nil {
		_ = s.Stream.Close()
		return nil, netip.AddrPort{}, err
	}
	return s.Stream, at, nil
}

// secure makes sure of the client at the other end of a socket, which it owns.
func (c *caller) secure(ctx context.Context, fd int, purpose auth.Purpose) (*auth.Session, error) {
	host, _, _ := net.SplitHostPort(c.name)
	s, err := c.Secure.Open(ctx, fd, host, purpose)
	if err != nil {
		return nil, fmt.Errorf("make sure of the client: %w", err)
	}
	return s, nil
}

// serve opens the links that the client asks for, until the stream ends. As long as it
// lives it owns it.
func (c *caller) serve(ctx context.Context, stream *auth.Stream, at netip.AddrPort) error {
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	tasks.Go(func() {
		<-ctx.Done()
		_ = stream.Close()
	})
	orders := make(chan int)
	tasks.Go(func() { c.open(ctx, at, orders) })
	for {
		var b [4]byte
		if _, err := io.ReadFull(stream, b[:]); err != nil {
			return fmt.Errorf("the control stream has ended: %w", err)
		}
		select {
		case orders <- int(min(binary.BigEndian.Uint32(b[:]), mostOrdered)):
		case <-ctx.Done():
		}
	}
}

// open opens links, some at once.
func (c *caller) open(ctx context.Context, at netip.AddrPort, orders <-chan int) {
	var opening sync.WaitGroup
	defer opening.Wait()
	under := make(chan struct{}, mostHandshakes)
	for left := 0; ; {
		begin := under
		if left == 0 {
			begin = nil
		}
		select {
		case <-ctx.Done():
			return
		case n := <-orders:
			left = min(left+n, mostOrdered)
		case begin <- struct{}{}:
			left--
			opening.Go(func() {
				defer func() { <-under }()
				c.openOne(ctx, at)
			})
		}
	}
}

// openOne opens a link, and tries again for a while if it cannot, because the client counts
// on each that it has asked for: one that never came would be missing for as long as others
// come. After that while the client asks again by itself, as long as the stream lives.
func (c *caller) openOne(ctx context.Context, at netip.AddrPort) {
	began := time.Now()
	for pause := minBackOff; ; pause *= 2 {
		err := c.openNow(ctx, at)
		switch {
		case err == nil, ctx.Err() != nil:
			return
		case errors.Is(err, auth.ErrUntrusted) && !c.refuses.Swap(true):
			c.Log.Warn("client takes no links of this server, though it asks for them", slog.String("client", c.name), slog.Any("error", err))
		default:
			c.Log.Debug("a link that the client has asked for cannot be opened", slog.String("client", c.name), slog.Any("error", err))
		}
		if errors.Is(err, auth.ErrUntrusted) || time.Since(began)+pause > stale {
			return
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// openNow tries to open one.
func (c *caller) openNow(ctx context.Context, at netip.AddrPort) error {
	tctx, cancel := context.WithTimeoutCause(ctx, c.ConnectTimeout, errStuck)
	defer cancel()
	fd, err := c.dialer.connect(at)
	if err != nil {
		return err
	}
	s, err := c.secure(tctx, fd, auth.ToClient)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		socket.Close(s.FD) // the stream has ended, and with it what the client knows of us
		return nil
	}
	c.Take(s, at)
	return nil
}
