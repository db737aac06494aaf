package client

import (
	"net/netip"

	"portredirector/internal/track"
)

// CutBanned ends the live peers of a prefix.
func (c *Client) CutBanned(p netip.Prefix) {
	c.Track.Cut(track.Banned, func(o track.Owner) bool {
		peer, ok := o.(interface{ Peer() netip.AddrPort })
		return ok && p.Contains(peer.Peer().Addr())
	})
}
