package server

import (
	"cmp"
	"errors"
	"net/netip"

	"portredirector/internal/auth"
	"portredirector/internal/relay"
	"portredirector/internal/track"
	"portredirector/internal/wire"
)

// Describe fills in what the server knows about a peer.
func (c *conn) Describe(r *track.Record) {
	r.ID, r.Peer, r.Entry = c.header.ID, c.header.Source, c.header.Destination
	if c.served() {
		r.Service = cmp.Or(c.service.Name, c.service.String())
	}
	r.Other, r.Identity = c.from.String(), c.server.nameOf(c.from.origin)
	if c.addr.IsValid() {
		r.Source = c.header.Source
		if c.port != 0 {
			r.Source = netip.AddrPortFrom(r.Source.Addr(), c.port)
		}
	}
}

// nameOf returns the name of an authenticated client, or its key if it has none.
func (s *Server) nameOf(o Origin) string {
	if s.Clients != nil {
		if known := s.Clients()[o.Key]; known != nil && known.Name != "" {
			return known.Name
		}
	}
	return auth.Identity{Key: o.Key, Name: o.Name}.String()
}

// endedBy returns the party that ended a pair. On a framed link a peer's reset is a frame, and
// a reset of the link is a failure. On others the client resets the link for the peer.
func endedBy(r relay.Result, framed bool) track.Who {
	switch r.End {
	case relay.Finished:
		return track.Nobody
	case relay.AcceptedReset:
		if framed && !errors.Is(r.Err, relay.ErrLinkReset) {
			return track.Link
		}
		return track.Peer
	case relay.DialedReset, relay.Refused:
		return track.Service
	case relay.Idle:
		return track.Limit
	case relay.Cut:
		return track.Admin
	case relay.Failed:
	}
	return track.Server
}

// blame returns the party that caused a refusal.
func blame(status wire.Status) track.Who {
	switch status {
	case wire.Refused, wire.Unreachable:
		return track.Service
	case wire.Busy:
		return track.Limit
	case wire.Draining:
		return track.Admin
	case wire.Banned:
		return track.Banned
	default:
		return track.Server
	}
}
