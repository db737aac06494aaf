package server

import (
	"context"
	"errors"
	"log/slog"

	"portredirector/internal/claim"
	"portredirector/internal/socket"
	"portredirector/internal/wire"
)

// healthCheck answers a client that asks whether the server works, and waits for the next
// header of its link. It ends the link of a load balancer's health check in good order.
func (c *conn) healthCheck(_ context.Context, link int) {
	c.server.Track.Forget(&c.record)
	c.server.Log.Debug("health check", slog.Any("link", c.from))
	switch {
	case !c.header.Answer:
		socket.Close(link)
	case c.from.answer(link, wire.Connected) != nil:
		socket.Reset(link)
	default:
		c.server.listen(link, c.from, c.head)
	}
}

// ownAddress serves a link whose header claims the link's own source. HAProxy's health
// checks with send-proxy do, and name their own destination, too.
func (c *conn) ownAddress(ctx context.Context, link int) {
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

// isCheck reports whether a header that is refused with err was a health check. HAProxy
// describes the check's own connection. A NAT on the way may have changed the
// addresses, but seldom both ports.
func (c *conn) isCheck(link int, err error) bool {
	if c.header.Answer || !errors.Is(err, ErrNoService) && !errors.Is(err, claim.ErrDenied) {
		return false
	}
	source, from := c.header.Source, c.from.addr
	return source == from || source.Port() == from.Port() && c.header.Destination.Port() == socket.Local(link).Port()
}
