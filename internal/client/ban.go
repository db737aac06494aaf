package client

import (
	"net/netip"

	"portredirector/internal/track"
)

// CutBanned ends the live peers of a prefix.
func (c *Client) CutBanned(p netip.Prefix) {
	c.Track.Cut(track.Banned, func(o track.Owner) bool {
		k, ok := o.(*conn)
		return ok && p.Contains(k.header.Source.Addr())
	})
}
