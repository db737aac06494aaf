// Package client accepts peers and carries each over a link to the server.
//
// [Client.Handle] is the whole life of one peer up to the relay: open a link,
// send the header, hand both sockets over. The server's answer is awaited in
// the relay, so the peer's first bytes do not wait for it.
package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"portredirector/internal/header"
	"portredirector/internal/link"
	"portredirector/internal/relay"
	"portredirector/internal/socket"
)

// headerRoom is room for the longest header that a client sends, in bytes: a v1
// line (PROXY protocol, 2.1).
const headerRoom = 107

// Client is the client's end of any number of peers. Its fields must be set
// before the first Handle.
type Client struct {
	Links *link.Dialer
	Form  header.Form
	Relay *relay.Engine
	Log   *slog.Logger

	// OpenTimeout is for the server to be reached, and again for its answer.
	OpenTimeout time.Duration
}

// Handle serves a peer that was accepted, and owns it. It is called on a loop of
// the relay, and does not wait.
//
// A peer that cannot be served is reset, as it would have been by a direct
// connection, never closed as if it had been served.
func (c *Client) Handle(peer int, from netip.AddrPort) {
	h := header.Header{Source: from, Destination: socket.Local(peer)}
	if c.Form == header.Native {
		h.ID = header.NewID()
	}
	prefix, err := h.Append(make([]byte, 0, headerRoom), c.Form)
	switch {
	case err != nil:
		c.refuse(peer, h, err)
	case c.Links.Named():
		c.Relay.Go(func(ctx context.Context) {
			link, err := c.Links.Dial(ctx)
			c.relay(peer, h, prefix, link, err)
		})
	default:
		link, err := c.Links.Connect()
		c.relay(peer, h, prefix, link, err)
	}
}

// relay hands both sockets over, unless there is no link.
func (c *Client) relay(peer int, h header.Header, prefix []byte, link int, err error) {
	if err != nil {
		c.refuse(peer, h, err)
		return
	}
	c.log(slog.LevelDebug, "peer connects", h, slog.Any("link", lazyLocal(link)))
	pair := relay.Pair{
		Accepted: peer, Dialled: link, Prefix: prefix, OpenTimeout: c.OpenTimeout,
		Unreached: func(_ context.Context, peer int, err error) {
			c.refuse(peer, h, fmt.Errorf("open link to %s: %w", c.Links.Server(), err))
		},
		Done: func(r relay.Result) { c.gone(h, r) },
	}
	if c.Form == header.Native {
		pair.Answer = c.judge
	}
	c.Relay.Relay(pair)
}

// lazyLocal is a socket whose address is asked for only if it is logged.
type lazyLocal int

// LogValue gives the address to a log.
func (fd lazyLocal) LogValue() slog.Value { return slog.StringValue(socket.Local(int(fd)).String()) }

// refuse resets a peer.
func (c *Client) refuse(peer int, h header.Header, err error) {
	socket.Reset(peer)
	c.log(slog.LevelWarn, "peer refused", h, slog.Any("error", err))
}

// judge takes the server's answer.
func (c *Client) judge(answer byte) error {
	switch status := header.Status(answer); {
	case status == header.Connected:
		return nil
	case status == header.NoService:
		return fmt.Errorf("server %s: %s for this port and address family", c.Links.Server(), status)
	case status == header.Internal:
		return fmt.Errorf("server %s: %s, its log has it", c.Links.Server(), status)
	case status > header.Internal:
		return fmt.Errorf("server %s: the answer %#x is none that we know; %s", c.Links.Server(), answer, otherServers)
	default:
		return fmt.Errorf("server %s: %s", c.Links.Server(), status)
	}
}

// otherServers is for who forgot it.
const otherServers = "a server that is not portredirector needs --header v2, v1 or py"

// gone tells the end of a peer.
func (c *Client) gone(h header.Header, r relay.Result) {
	switch {
	case r.End == relay.Refused && errors.Is(r.Err, relay.ErrNoAnswer):
		c.log(slog.LevelWarn, "peer refused", h,
			slog.String("error", fmt.Sprintf("server %s: no answer in time (--connect-timeout %s); %s", c.Links.Server(), c.OpenTimeout, otherServers)))
	case r.End == relay.Refused:
		c.log(slog.LevelWarn, "peer refused", h, slog.Any("error", r.Err))
	case r.End == relay.Failed:
		c.log(slog.LevelError, "relay failed", h, slog.Any("error", r.Err))
	default:
		c.log(slog.LevelDebug, "peer gone", h, slog.Any("result", r))
	}
}

// log logs an event of a peer. Attributes are made only for lines that are
// written: most peers leave none.
func (c *Client) log(level slog.Level, event string, h header.Header, more slog.Attr) {
	if !c.Log.Enabled(context.Background(), level) {
		return
	}
	attrs := []slog.Attr{slog.String("peer", h.Source.String()), slog.Int("port", int(h.Destination.Port()))}
	if !h.ID.IsZero() {
		attrs = append(attrs, slog.String("id", h.ID.String()))
	}
	c.Log.LogAttrs(context.Background(), level, event, append(attrs, more)...) //nolint:sloglint // a constant of the callers
}
