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
	"net"
	"net/netip"
	"time"

	"portredirector/internal/header"
	"portredirector/internal/link"
	"portredirector/internal/relay"
)

// maxHeader is room for the longest header that a client sends, in bytes: a v1
// line (PROXY protocol, 2.1).
const maxHeader = 107

// Client is the client's end of any number of peers. Its fields must be set
// before the first Handle.
type Client struct {
	Links *link.Dialer
	Form  header.Form
	Relay *relay.Engine
	Log   *slog.Logger

	// AnswerTimeout is for the server to reach the service, after the header
	// was sent.
	AnswerTimeout time.Duration
}

// Handle serves one peer, which it owns. It returns when the relay has taken
// over, or the peer was reset. When ctx ends, the peer is cut.
//
// A peer that cannot be served is reset, as it would have been by a direct
// connection, never closed as if it had been served.
func (c *Client) Handle(ctx context.Context, peer *net.TCPConn) {
	h := header.Header{
		Source:      addrPort(peer.RemoteAddr()),
		Destination: addrPort(peer.LocalAddr()),
	}
	if c.Form == header.Native {
		h.ID = header.NewID()
	}
	link, err := c.open(ctx, h)
	if err != nil {
		reset(peer)
		c.log(slog.LevelWarn, "peer refused", h, slog.Any("error", err))
		return
	}
	c.log(slog.LevelDebug, "peer connected", h, slog.Any("link", link.LocalAddr()))
	pair := relay.Pair{Accepted: peer, Dialled: link, Done: func(r relay.Result) { c.gone(h, r) }}
	if c.Form == header.Native {
		pair.Answer, pair.AnswerTimeout = c.judge, c.AnswerTimeout
	}
	c.Relay.Relay(pair)
}

// open opens a link and sends the header.
func (c *Client) open(ctx context.Context, h header.Header) (*net.TCPConn, error) {
	var buf [maxHeader]byte
	b, err := h.Append(buf[:0], c.Form)
	if err != nil {
		return nil, err
	}
	link, err := c.Links.Dial(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := link.Write(b); err != nil {
		reset(link)
		return nil, fmt.Errorf("send header: %w", err)
	}
	return link, nil
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
			slog.String("error", fmt.Sprintf("server %s: no answer within %s; %s", c.Links.Server(), c.AnswerTimeout, otherServers)))
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

// addrPort is the address of a TCP connection's end. One listener serves both
// families, and has IPv4 addresses mapped into IPv6.
func addrPort(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort() //nolint:errcheck,forcetypeassert // a TCP connection's
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// reset closes a connection by RST.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}
