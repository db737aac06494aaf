package reverse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/backoff"
	"portredirector/internal/dial"
)

// Dialer dials clients, for a server that they cannot reach, and opens the links that
// they ask for. Its fields must be set before the first call.
type Dialer struct {
	Clients []string // "host:port", where they listen
	Auth    *auth.Dialer
	// Congestion is that of links; nil is the system's.
	Congestion *dial.Congestion
	// Take is given each link to a client, and owns its socket. A peer may come over the
	// link from then on.
	Take func(s *auth.Session, client netip.AddrPort)

	// Tried is called once for each client, when it is reached or cannot be; nil does nothing.
	Tried func()

	ConnectTimeout time.Duration // of one link
	Heartbeat      time.Duration // of the control stream, and of idle links
	Resolver       dial.Resolver // nil is that of the system
	Log            *slog.Logger

	reached atomic.Int64 // clients that have a control stream
}

// Pauses between the tries of a client.
const (
	minRedial = 50 * time.Millisecond
	// maxRedial is short, because peers that this end does not know of may wait there.
	maxRedial = 5 * time.Second
	// steady is the life of a control stream after which the pauses begin anew. A second
	// server with the same key could take its place at once.
	steady = 10 * time.Second
)

// Run serves all clients until ctx is canceled. The links that Take was given live on.
func (d *Dialer) Run(ctx context.Context) {
	var clients sync.WaitGroup
	for _, name := range d.Clients {
		clients.Go(func() { d.client(name).run(ctx) })
	}
	clients.Wait()
}

// Unhealthy returns why no client is reached. It returns nil if one is, or if there are
// no clients.
func (d *Dialer) Unhealthy() error {
	if len(d.Clients) == 0 || d.reached.Load() > 0 {
		return nil
	}
	return fmt.Errorf("no client is reached: %s", strings.Join(d.Clients, " "))
}

// Visit opens a stream to a client, runs do, and closes it.
func (d *Dialer) Visit(ctx context.Context, name string, purpose auth.Purpose, do func(*auth.Stream) error) error {
	ctx, cancel := context.WithTimeout(ctx, d.ConnectTimeout)
	defer cancel()
	s, _, err := d.client(name).openStream(ctx, purpose)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	return do(s)
}

// client is one client that is dialed.
type client struct {
	*Dialer

	name    string
	dial    *dial.Dialer
	told    bool        // the log has it that the client cannot be reached
	refuses atomic.Bool // the client refuses links, and the log has it
}

func (d *Dialer) client(name string) *client {
	alive := net.KeepAliveConfig{Enable: true, Idle: d.Heartbeat, Interval: d.Heartbeat, Count: 1}
	return &client{Dialer: d, name: name, dial: &dial.Dialer{KeepAlive: alive, Congestion: d.Congestion}}
}

// run keeps a control stream to the client.
func (c *client) run(ctx context.Context) {
	log := c.Log.With(slog.String("client", c.name))
	tried := sync.OnceFunc(func() {
		if c.Tried != nil {
			c.Tried()
		}
	})
	defer tried()
	retry := backoff.Backoff{Min: minRedial, Max: maxRedial}
	for {
		stream, at, err := c.openStream(ctx, auth.Control)
		tried()
		if err == nil {
			log.Info("client is reached, it may ask for links", slog.String("at", at.String()))
			c.told = false
			c.refuses.Store(false)
			began := time.Now()
			c.reached.Add(1)
			err = c.serve(ctx, stream, at)
			c.reached.Add(-1)
			if time.Since(began) > steady {
				retry.Reset()
			}
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, io.EOF) {
			log.Info("client has ended the control stream, dialing it again")
		} else if !c.told {
			c.told = true
			log.Warn("client cannot be reached, trying again", slog.Any("error", err))
		}
		if !backoff.Sleep(ctx, retry.Next()) {
			return
		}
	}
}

// openStream opens a stream to the address of the client that answers first.
func (c *client) openStream(ctx context.Context, purpose auth.Purpose) (*auth.Stream, netip.AddrPort, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.ConnectTimeout, dial.ErrTimeout)
	defer cancel()
	host, port, err := dial.SplitHostPort(c.name)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	var resolver dial.Resolver = net.DefaultResolver
	if c.Resolver != nil {
		resolver = c.Resolver
	}
	addrs, err := dial.Addresses(ctx, resolver, host, port)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	fd, at, err := c.dial.Race(ctx, addrs)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	s, err := c.authenticate(ctx, fd, purpose)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	if err := s.Stream.EndAfter(c.Heartbeat); err != nil {
		_ = s.Stream.Close()
		return nil, netip.AddrPort{}, err
	}
	return s.Stream, at, nil
}

// authenticate runs the handshake over a socket, which it owns.
func (c *client) authenticate(ctx context.Context, fd int, purpose auth.Purpose) (*auth.Session, error) {
	host, _, _ := net.SplitHostPort(c.name)
	s, err := c.Auth.Open(ctx, fd, host, purpose)
	if err != nil {
		return nil, fmt.Errorf("authenticate the client: %w", err)
	}
	return s, nil
}
