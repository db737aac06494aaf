package client

import (
	"context"
	"errors"

	"portredirector/internal/ports"
	"portredirector/internal/relay"
	"portredirector/internal/track"
	"portredirector/internal/wire"
)

// Describe fills in what the client knows about a peer.
func (k *conn) Describe(r *track.Record) {
	r.ID, r.Peer, r.Entry = k.header.ID, k.header.Source, k.header.Destination
	r.Service = k.client.Names[ports.Port{Number: r.Port}]
	if k.link == nil {
		return
	}
	r.Other = k.link.Server()
	if s := k.link.Session(); s != nil {
		r.Identity = s.Identity.String()
	}
}

// endedBy returns the party that ended a pair.
func endedBy(r relay.Result) track.Who {
	switch r.End {
	case relay.Finished:
		return track.Nobody
	case relay.AcceptedReset:
		return track.Peer
	case relay.DialedReset:
		if errors.Is(r.Err, relay.ErrLinkReset) {
			return track.Service
		}
		return track.Link
	case relay.Idle:
		return track.Limit
	case relay.Cut:
		return track.Admin
	case relay.Refused:
		return blame(r.Err)
	case relay.Failed:
	}
	return track.Client
}

// blame returns the party that caused a refusal.
func blame(err error) track.Who {
	refusal, answered := errors.AsType[Refusal](err)
	switch {
	case answered && refusal == Refusal(wire.Busy):
		return track.Limit
	case answered && refusal == Refusal(wire.Banned):
		return track.Banned
	case answered && (refusal == Refusal(wire.Refused) || refusal == Refusal(wire.Unreachable)):
		return track.Service
	case answered, errors.Is(err, ErrNoServer), errors.Is(err, relay.ErrNoStatus):
		return track.Server
	case errors.Is(err, errOwnLink):
		return track.Client
	case errors.Is(err, context.Canceled):
		return track.Admin
	}
	return track.Link
}
