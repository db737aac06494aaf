package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"syscall"
	"time"

	"portredirector/internal/claim"
	"portredirector/internal/datagram"
	"portredirector/internal/limit"
	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/wire"
)

// Bounds on reading from a link after a bye, so that the bye arrives.
const (
	lingerTime  = time.Second
	lingerBytes = 256 << 10
)

// refuse refuses a peer that cannot be served. A client that asked for a status gets one,
// and the link waits for its next peer. Others get a RST, which they can pass on.
func (c *conn) refuse(ctx context.Context, link int, err error) {
	c.leave()
	if c.isCheck(link, err) {
		c.healthCheck(ctx, link)
		return
	}
	if c.header.Answer && c.server.Relay.Retired() && !c.server.Relay.Draining() {
		// The successor of this server may serve the peer.
		c.server.Track.Forget(&c.record)
		c.debug("peer is for the next server", slog.Any("error", err))
		c.endLink(ctx, link)
		return
	}
	status := statusOf(err)
	c.server.Track.End(&c.record, blame(status), err)
	c.server.refused.of(status).Add(1)
	if status == wire.Banned { // an operator's own decision is for debugging only
		c.debug("peer refused", slog.Any("error", err))
	} else {
		c.server.Tell.Log(slog.LevelWarn, "peer refused", Subject{c.from.prefix(), status}, func() []slog.Attr {
			return c.attrs([]slog.Attr{slog.String("link", c.from.String()), slog.Any("error", err)})
		})
	}
	if errors.Is(err, errNoLonger) && c.header.Answer {
		c.endLink(ctx, link)
		return
	}
	if !c.header.Answer || ctx.Err() != nil || c.from.say(link, c.refusal(status, err)) != nil {
		socket.Reset(link)
		return
	}
	waits, _ := c.server.Leaving.Add(c.from.origin)
	again := c.server.listenAgain(c.from)
	leaving := c.server.Relay.Leave(relay.Leaving{
		Accepted: link, Layer: c.from.layer(), Said: c.head,
		OnFree: func(link int, said []byte) {
			waits.Over()
			again(link, said)
		},
		OnError: func(err error) {
			if errors.Is(err, wire.ErrFrame) {
				c.server.refuseLink(c.from, err, &c.server.refused.frame)
			}
		},
	})
	waits.Began(leaving.Expire)
}

// endLink closes a link without a status. The client may retry the peer over another link.
func (c *conn) endLink(ctx context.Context, link int) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	waits, _ := c.server.Leaving.Add(c.from.origin)
	defer waits.Over()
	waits.Began(end)
	farewell(ctx, link, c.from)
}

// farewell ends a link by a bye. Closing a socket with unread bytes sends a RST, which
// may overtake the bye. So it sends a FIN and reads on for a moment.
func farewell(ctx context.Context, link int, to *remote) {
	if err := to.bye(link); err != nil {
		socket.Reset(link)
		return
	}
	conn, err := socket.Conn(link)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(lingerTime))
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if conn.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, conn, lingerBytes)
	}
}

// statusOf returns the status for an error.
func statusOf(err error) wire.Status {
	if _, banned := errors.AsType[bannedError](err); banned {
		return wire.Banned
	}
	for _, m := range []struct {
		is     error
		status wire.Status
	}{
		{errDraining, wire.Draining},
		{ErrPlain, wire.NotAuthorized},
		{ErrUnknownKey, wire.NotAuthorized},
		{errNoLonger, wire.NotAuthorized},
		{ErrPortDenied, wire.NotAuthorized},
		{ErrClaimDenied, wire.ClaimDenied},
		{claim.ErrDenied, wire.ClaimDenied},
		{claim.ErrNeighbor, wire.Unreachable}, // another server may reach the service in another way
		{errTrying, wire.Busy},
		{datagram.ErrTaken, wire.Busy}, // until the flow is over
		{limit.ErrAll, wire.Busy},
		{limit.ErrEach, wire.Busy},
		{ErrNoService, wire.NoService},
		{ErrFamily, wire.NoService},
		{errAway, wire.Unreachable},
		{errNoRoute, wire.Unreachable},
		{syscall.ECONNREFUSED, wire.Refused},
		{socket.ErrCollision, wire.Internal},
		{socket.ErrClaim, wire.ClaimDenied},
		{context.DeadlineExceeded, wire.Unreachable},
		{relay.ErrTimeout, wire.Unreachable},
		{syscall.ETIMEDOUT, wire.Unreachable},
		{syscall.EHOSTUNREACH, wire.Unreachable},
		{syscall.ENETUNREACH, wire.Unreachable},
	} {
		if errors.Is(err, m.is) {
			return m.status
		}
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return wire.Unreachable
	}
	return wire.Internal
}
