package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"portredirector/internal/link"
	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/wire"
)

// answer is a status other than Connected, as an error. It is relay.ErrUndelivered
// if another server may serve the peer.
type answer wire.Status

func (a answer) Error() string {
	switch status := wire.Status(a); {
	case status == wire.NoService:
		return status.String() + " for this port and address family"
	case status == wire.NotAuthorized:
		return status.String() + ": are there keys or certificates on both ends, and may this client use the port (ports= there)? Its log has it"
	case status == wire.ClaimDenied:
		return status.String() + ": this client may not bring a peer with this address (claims=, --allow-claim there), its log has why"
	case status == wire.Internal:
		return status.String() + ", its log has it"
	case !status.Known():
		return fmt.Sprintf("its first byte %#02x is no answer of a portredirector server; %s", byte(a), otherServers)
	default:
		return status.String()
	}
}

// undelivered are the statuses after which another server may serve the peer. Each
// promises that no byte of the peer has reached a service.
var undelivered = []wire.Status{wire.Unreachable, wire.NoService, wire.Draining, wire.Internal, wire.Busy}

// Is makes a an [relay.ErrUndelivered], or a [link.ErrForeign] if no server of this
// project has written it.
func (a answer) Is(target error) bool {
	switch target {
	case relay.ErrUndelivered:
		return slices.Contains(undelivered, wire.Status(a))
	case link.ErrForeign:
		return !wire.Status(a).Known()
	}
	return false
}

// onStatus takes the first byte from the server. A draining server may answer many
// peers and is not back in between. A program that is not ours is left out: it may
// have taken the header and the peer's bytes for a request.
func (k *conn) onStatus(b byte) error {
	switch status := wire.Status(b); {
	case status == wire.Connected:
		k.link.Works()
		return nil
	case !status.Known():
		k.link.Fail(answer(status))
	case status != wire.Draining:
		k.link.Works()
	}
	return answer(b)
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
	why := k.explain(u.Err)
	k.debug("nothing was delivered, trying again", slog.Any("error", k.named(why)))
	a, answered := errors.AsType[answer](u.Err)
	slow := errors.Is(u.Err, relay.ErrNoStatus) && !k.link.Mute() // it is the service that says nothing
	if answered && a != answer(wire.Draining) || slow {
		// What it could not do now it cannot do in a moment either.
		k.tried.Add(k.link)
		l, ok, err := k.client.Links.Open(ctx, &k.tried)
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
	case k.link.Ready() && k.deaths < mostDeaths:
		k.deaths++ // it may have been ended just when the peer got it
	case answered:
		k.link.Fail(link.ErrDraining)
	default:
		k.link.Fail(why)
	}
	k.wait(ctx, u)
}

// wait waits for a server.
func (k *conn) wait(ctx context.Context, u relay.Undelivered) {
	l, err := k.client.Links.Wait(ctx, &k.tried)
	switch {
	case err != nil && ctx.Err() != nil:
		k.refuse(u.Accepted, fmt.Errorf("no server within --connect-timeout %s: %w", k.client.OpenTimeout, err))
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
