package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/upstream"
	"portredirector/internal/wire"
)

// onStatus takes the first byte from the server. A draining server may answer many
// peers and is not back in between. A program that is not ours is left out: it may
// have taken the header and the peer's bytes for a request.
func (k *conn) onStatus(b byte) error {
	switch status := wire.Status(b); {
	case status == wire.Connected:
		k.link.Works()
		return nil
	case !status.Known():
		k.link.Fail(Refusal(status))
	case status != wire.Draining:
		k.link.Works()
	}
	return Refusal(b)
}

// mostDeaths is how many links that were opened ahead may end unanswered, one after
// the other, before that is blamed on the server.
const mostDeaths = 3

// retry offers a peer of whom nothing was delivered to another server, or to the
// same, once it works again.
func (k *conn) retry(ctx context.Context, u relay.Undelivered) {
	k.link.Leave()
	ctx, cancel := context.WithDeadline(ctx, k.deadline)
	defer cancel()
	why := u.Err
	k.debug("nothing was delivered, trying again", slog.Any("error", k.named(why)))
	refusal, answered := errors.AsType[Refusal](u.Err)
	slow := errors.Is(u.Err, relay.ErrNoStatus) && !k.link.Mute() // it is the service that says nothing
	if answered && refusal != Refusal(wire.Draining) || slow {
		// What it could not do now it cannot do in a moment either.
		k.tried.Add(k.link)
		l, ok, err := k.client.Servers.Open(ctx, &k.tried)
		switch {
		case err != nil:
			k.refuse(u.Accepted, err)
		case !ok:
			k.refuse(u.Accepted, k.named(why))
		default:
			k.relay(l, u)
		}
		return
	}
	switch {
	case errors.Is(u.Err, upstream.ErrNoAnswer): // it is left out already
	case errors.Is(u.Err, relay.ErrNoStatus):
		k.link.Fail(upstream.ErrNoAnswer)
	case k.link.Ready() && k.deaths < mostDeaths:
		k.deaths++ // it may have been ended just when the peer got it
	case answered:
		k.link.Fail(upstream.ErrDraining)
	default:
		k.link.Fail(why)
	}
	k.wait(ctx, u)
}

// wait waits for a server.
func (k *conn) wait(ctx context.Context, u relay.Undelivered) {
	l, err := k.client.Servers.Wait(ctx, &k.tried)
	switch {
	case err != nil && ctx.Err() != nil:
		k.refuse(u.Accepted, fmt.Errorf("%w (%s): %w", ErrNoServer, k.client.OpenTimeout, err))
	case err != nil:
		k.refuse(u.Accepted, err)
	case socket.Look(u.Accepted).Broken:
		socket.Close(u.Accepted)
		socket.Close(l.FD())
		l.Leave()
		k.leave()
		k.debug("peer gone, while it waited")
	default:
		k.relay(l, u)
	}
}
