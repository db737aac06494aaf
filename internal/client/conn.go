// Package client accepts peers and carries each over a link to a server.
//
// [Client.Handle] is the whole life of one peer up to the relay: take a link, send
// the header, hand both sockets over. The server's answer is awaited in the relay,
// so the peer's first bytes do not wait for it. A peer of whom nothing was delivered
// comes back from there, and is offered to another server; see retry.go.
package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"portredirector/internal/limit"
	"portredirector/internal/logging"
	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/upstream"
	"portredirector/internal/wire"
)

// headerRoom is room for the longest header that a client sends, in bytes: a v1
// line (PROXY protocol, 2.1).
const headerRoom = 107

// Client is the client's end of any number of peers. Its fields must be set
// before the first Handle.
type Client struct {
	Servers *upstream.Servers
	Form    wire.Form
	Relay   *relay.Engine
	Log     *slog.Logger

	// OpenTimeout is for a server to be reached, however many are tried, and again
	// for an answer.
	OpenTimeout time.Duration

	Peers limit.Peers[netip.Prefix]      // bounds them, by where they are
	Tell  logging.Throttle[netip.Prefix] // for what peers can cause, by where they are
}

// conn is one peer on its way to a server.
type conn struct {
	client *Client
	header wire.Header
	prefix []byte // the header as it is sent

	link     upstream.Link  // the one in use
	tried    upstream.Tried // servers that have refused it
	deadline time.Time      // of reaching one
	deaths   int            // links in a row that had been opened ahead and ended unanswered
}

// Handle serves a peer that was accepted, and owns it. It is called on a loop of
// the relay, and does not wait.
//
// A peer that cannot be served is reset, as it would have been by a direct
// connection, never closed as if it had been served.
func (c *Client) Handle(peer int, from netip.AddrPort) {
	if err := c.Peers.Enter(limit.SourcePrefix(from.Addr())); err != nil {
		socket.Reset(peer)
		c.Tell.Log(slog.LevelWarn, "peer refused", limit.SourcePrefix(from.Addr()), func() []slog.Attr {
			return []slog.Attr{slog.String("peer", from.String()), slog.Any("error", err)}
		})
		return
	}
	k := &conn{client: c, header: wire.Header{Source: from, Destination: socket.Local(peer)}}
	if c.Form == wire.Native {
		k.header.ID = wire.NewID()
	}
	var err error
	if k.prefix, err = k.header.Append(make([]byte, 0, headerRoom), c.Form); err != nil {
		k.refuse(peer, err)
		return
	}
	k.deadline = time.Now().Add(c.OpenTimeout)
	k.open(relay.Undelivered{Accepted: peer})
}

// open takes a link for a peer, or has it wait for one.
func (k *conn) open(u relay.Undelivered) {
	l, ok, err := k.client.Servers.Take(&k.tried)
	switch {
	case err != nil:
		k.refuse(u.Accepted, err)
	case !ok:
		k.client.Relay.Go(func(ctx context.Context) {
			ctx, cancel := context.WithDeadline(ctx, k.deadline)
			defer cancel()
			k.wait(ctx, u)
		})
	default:
		k.relay(l, u)
	}
}

// relay hands both sockets over.
func (k *conn) relay(l upstream.Link, u relay.Undelivered) {
	c := k.client
	k.link = l
	k.debug("peer connects", slog.String("server", l.Server()), slog.Any("link", lazyLocal(l.FD())))
	pair := relay.Pair{
		Accepted: u.Accepted, Dialed: l.FD(), UpPrefix: k.prefix, Peeked: u.Peeked, PeekedEOF: u.PeekedEOF,
		ConnectTimeout: l.Timeout, OnUndelivered: k.retry, Done: k.gone,
	}
	if s := l.Session(); s != nil && s.Conn != nil {
		pair.DialedLayer = s.Conn
	} else if s != nil {
		pair.UpPrefix = wire.Seal(bytes.Clone(k.prefix), s.HeaderKey)
	}
	if c.Form == wire.Native {
		pair.OnStatus, pair.StatusTimeout, pair.GiveUp = k.onStatus, c.OpenTimeout, l.Lost
	}
	c.Relay.Relay(pair)
}

// lazyLocal is a socket whose address is asked for only if it is logged.
type lazyLocal int

// LogValue gives the address to a log.
func (fd lazyLocal) LogValue() slog.Value { return slog.StringValue(socket.Local(int(fd)).String()) }

// refuse resets a peer.
func (k *conn) refuse(peer int, err error) {
	socket.Reset(peer)
	k.leave()
	k.tell(slog.LevelWarn, "peer refused", slog.Any("error", err))
}

// leave is the end of its being one of the client's peers.
func (k *conn) leave() { k.client.Peers.Leave(limit.SourcePrefix(k.header.Source.Addr())) }

// gone tells the end of a peer.
func (k *conn) gone(r relay.Result) {
	k.link.Leave()
	k.leave()
	switch r.End {
	case relay.Refused:
		if errors.Is(r.Err, relay.ErrNoStatus) && k.link.Mute() {
			k.link.Fail(upstream.ErrNoAnswer)
		}
		k.tell(slog.LevelWarn, "peer refused", slog.Any("error", k.named(r.Err)))
	case relay.Failed:
		k.tell(slog.LevelError, "relay failed", slog.Any("error", r.Err))
	default:
		k.debug("peer gone", slog.Any("result", r))
	}
}

// named says of which server an error is.
func (k *conn) named(err error) error { return fmt.Errorf("server %s: %w", k.link.Server(), err) }

// debug logs what most peers do. Attributes are made only for lines that are written.
func (k *conn) debug(event string, more ...slog.Attr) {
	if log := k.client.Log; log.Enabled(context.Background(), slog.LevelDebug) {
		log.LogAttrs(context.Background(), slog.LevelDebug, event, k.attrs(more)...) //nolint:sloglint // a constant of the callers
	}
}

// tell logs one that may come as often as somebody likes.
func (k *conn) tell(level slog.Level, event string, more ...slog.Attr) {
	k.client.Tell.Log(level, event, limit.SourcePrefix(k.header.Source.Addr()), func() []slog.Attr { return k.attrs(more) })
}

func (k *conn) attrs(more []slog.Attr) []slog.Attr {
	h := k.header
	attrs := []slog.Attr{slog.String("peer", h.Source.String()), slog.Int("port", int(h.Destination.Port()))}
	if !h.ID.IsZero() {
		attrs = append(attrs, slog.String("id", h.ID.String()))
	}
	return append(attrs, more...)
}
