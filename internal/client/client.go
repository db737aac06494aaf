// Package client accepts peers and carries each over a link to a server.
//
// [Client.Handle] does all that a peer needs until the relay has it: it takes a link,
// encodes the header, and hands both sockets over. The relay waits for the answer of the
// server, so the peer's first bytes do not. If nothing of a peer was delivered the relay
// gives it back, and the client offers it to another server (retry.go).
package client

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"portredirector/internal/ban"
	"portredirector/internal/limit"
	"portredirector/internal/logging"
	"portredirector/internal/ports"
	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/track"
	"portredirector/internal/upstream"
	"portredirector/internal/wire"
)

// headerRoom is the length of the longest header that a client sends, in bytes: a v1
// line (PROXY protocol, 2.1).
const headerRoom = 107

// Client serves any number of peers. Its fields must be set before the first Handle.
type Client struct {
	Servers *upstream.Servers
	Form    wire.Form
	Names   map[ports.Port]string // of ports that peers connect to, for the log
	Relay   *relay.Engine
	Log     *slog.Logger

	// OpenTimeout bounds the time until a server is reached, however many are tried, and
	// again the time until it answers.
	OpenTimeout time.Duration

	// Retired is canceled when another process takes over the peers that wait for a link. It
	// may be nil. Pass sends such a peer to that process. The caller still owns its socket.
	Retired context.Context //nolint:containedctx // a stage of the program, not of a call
	Pass    func(w Waiting) error

	Bans     *ban.List                      // of peers; nil bans nobody
	Track    track.Table                    // of the peers
	Peers    limit.Peers[netip.Prefix]      // by source
	Throttle logging.Throttle[netip.Prefix] // for what peers can cause, by source
}

// Handle serves a peer that was accepted, and owns its socket. It is called on a loop of
// the relay and does not block.
//
// A peer that cannot be served is reset, as by a direct connection. It is never closed
// as if it had been served.
func (c *Client) Handle(peer int, from netip.AddrPort) {
	c.handle(relay.Undelivered{Accepted: peer}, from, time.Now().Add(c.OpenTimeout))
}

// handle serves a peer, whose first bytes may have been read already.
func (c *Client) handle(u relay.Undelivered, from netip.AddrPort, deadline time.Time) {
	peer := u.Accepted
	if _, banned := c.Bans.Banned(from.Addr()); banned {
		c.Track.Refuse(ports.Port{Number: socket.Local(peer).Port()}, track.Code{Who: track.Banned, Phase: track.Queue})
		socket.Reset(peer)
		return
	}
	source := limit.SourcePrefix(from.Addr())
	if err := c.Peers.Enter(source); err != nil {
		c.Track.Refuse(ports.Port{Number: socket.Local(peer).Port()}, track.Code{Who: track.Limit, Phase: track.Queue})
		socket.Reset(peer)
		c.Throttle.Log(slog.LevelWarn, "peer refused", source, func() []slog.Attr {
			return []slog.Attr{slog.String("peer", from.String()), slog.Any("error", err)}
		})
		return
	}
	k := &conn{client: c, header: wire.Header{Source: from, Destination: socket.Local(peer)}, attempt: new(attempt)}
	if c.Form == wire.Native {
		k.header.ID = wire.NewID()
	}
	c.Track.Begin(&k.record, k, ports.Port{Number: k.header.Destination.Port()})
	if from.Addr() == k.header.Destination.Addr() && c.Servers.IsSelf(k.header.Destination) {
		k.refuse(peer, errOwnLink)
		return
	}
	var err error
	if k.prefix, err = k.header.Append(make([]byte, 0, headerRoom), c.Form); err != nil {
		k.refuse(peer, err)
		return
	}
	k.deadline = deadline
	k.open(u)
}
