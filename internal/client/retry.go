package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/track"
	"portredirector/internal/upstream"
	"portredirector/internal/wire"
)

// onStatus takes the status from the server. A draining server may answer many peers and
// is not back in between.
func (k *conn) onStatus(status wire.Status, ban wire.Ban) error {
	if status == wire.Banned && k.client.Bans != nil {
		k.client.Bans.Learn(k.header.Source.Addr(), ban)
	}
	if status == wire.Draining {
		k.link.Retire()
	} else {
		k.link.Works()
	}
	if status == wire.Connected {
		k.attempt = nil
		return nil
	}
	return Refusal(status)
}

// mostDeaths is the number of links in a row that may end without an answer before the
// server is left out, if they were opened ahead.
const mostDeaths = 3

// retry offers a peer of which nothing was delivered to another server, or to the same
// one when it is in use again.
func (k *conn) retry(ctx context.Context, u relay.Undelivered) {
	k.link.Leave()
	ctx, cancel := k.untilRetired(ctx)
	defer cancel()
	k.debug("nothing was delivered, trying again", slog.Any("error", k.ofServer(u.Err)))
	refusal, answered := errors.AsType[Refusal](u.Err)
	noStatus := errors.Is(u.Err, relay.ErrNoStatus)
	switch {
	case answered && refusal != Refusal(wire.Draining), noStatus && !k.link.Mute():
		// The server works, and its service does not. That lasts for a while.
		k.openOther(ctx, u)
		return
	case errors.Is(u.Err, upstream.ErrNoAnswer):
		// The server is left out already.
	case noStatus:
		k.link.Fail(upstream.ErrNoAnswer)
	case k.link.Ready() && errors.Is(u.Err, relay.ErrBye):
		// The server was closing an idle link.
	case k.link.Ready() && k.deaths < mostDeaths:
		k.deaths++ // the server may have ended the link just when the peer got it
	case answered:
		k.link.Fail(upstream.ErrDraining)
	default:
		k.link.Fail(u.Err)
	}
	k.wait(ctx, u)
}

// openOther offers a peer to a server that it has not tried.
func (k *conn) openOther(ctx context.Context, u relay.Undelivered) {
	k.tried.Add(*k.link)
	l, ok, err := k.client.Servers.Open(ctx, &k.tried)
	switch {
	case !ok && k.handOver(u):
	case err != nil:
		k.refuse(u.Accepted, err)
	case !ok:
		k.refuse(u.Accepted, k.ofServer(u.Err))
	default:
		k.relay(l, u)
	}
}

// wait waits until a server is in use.
func (k *conn) wait(ctx context.Context, u relay.Undelivered) {
	k.record.Requeue()
	l, err := k.client.Servers.Wait(ctx, &k.tried)
	switch {
	case err != nil && k.handOver(u):
	case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		k.refuse(u.Accepted, fmt.Errorf("%w (%s): %w", ErrNoServer, k.client.OpenTimeout, err))
	case err != nil:
		k.refuse(u.Accepted, err)
	case socket.Look(u.Accepted).Broken:
		socket.Close(u.Accepted)
		l.Leave()
		l.PutBack()
		k.ended(track.Peer, nil)
		k.debug("peer gone, while it waited")
	default:
		k.relay(l, u)
	}
}
