package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"portredirector/internal/limit"
	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/track"
	"portredirector/internal/upstream"
	"portredirector/internal/wire"
)

// conn is one peer.
type conn struct {
	client *Client
	header wire.Header
	record track.Conn
	link   *upstream.Link // in use

	*attempt // nil once the server is connected to the service
}

// attempt holds what is needed until the peer is served.
type attempt struct {
	prefix   []byte         // the encoded header
	tried    upstream.Tried // servers that have refused the peer
	deadline time.Time      // for reaching a server
	deaths   int            // links in a row that were opened ahead and ended without an answer
}

// Peer returns the peer.
func (k *conn) Peer() netip.AddrPort { return k.header.Source }

// open takes a link for the peer, or waits for one on a goroutine.
func (k *conn) open(u relay.Undelivered) {
	l, ok, err := k.client.Servers.Take(&k.tried)
	switch {
	case err != nil:
		k.refuse(u.Accepted, err)
	case !ok:
		k.client.Relay.Go(func(ctx context.Context) {
			ctx, cancel := k.untilRetired(ctx)
			defer cancel()
			k.wait(ctx, u)
		})
	default:
		k.relay(l, u)
	}
}

// relay hands both sockets over.
func (k *conn) relay(l upstream.Link, u relay.Undelivered) {
	c := k.client
	c.Track.Linked(&k.record, func() { k.link = &l })
	k.debug("peer connects", slog.String("server", l.Server()), slog.Any("link", localAddr(l.FD())))
	pair := relay.Pair{
		Accepted: u.Accepted, Dialed: l.FD(), UpPrefix: k.prefixFor(l), Peeked: u.Peeked, PeekedEOF: u.PeekedEOF,
		ConnectTimeout: l.Timeout, OnUndelivered: k.retry, Done: k.done, Meter: &k.record.Meter,
	}
	if s := l.Session(); s != nil && s.Conn != nil {
		pair.DialedLayer = s.Conn
	}
	if c.Form == wire.Native {
		k.native(&pair, k.link)
	}
	c.Relay.Relay(pair)
}

// prefixFor returns the header as a link needs it: sealed if the link is authenticated, and
// in a frame if it is not the first one there.
func (k *conn) prefixFor(l upstream.Link) []byte {
	header := k.prefix
	if s := l.Session(); s != nil && s.Conn == nil {
		header = wire.Seal(bytes.Clone(header), s.HeaderKey, l.Carried())
	}
	if l.Carried() > 0 {
		return wire.AppendFrame(make([]byte, 0, headerRoom), wire.KindHeader, header...)
	}
	return header
}

// native configures a pair for a link that may carry others afterwards. A server that sends
// anything on an idle link is closing it.
func (k *conn) native(pair *relay.Pair, l *upstream.Link) {
	pair.Framed, pair.StatusTimeout, pair.GiveUp = relay.DialedLink, k.client.OpenTimeout, k.lost
	pair.OnStatus = k.onStatus
	pair.OnFree = func(link int, said []byte) {
		switch {
		case link < 0:
		case len(said) > 0:
			l.Close()
		default:
			l.Return()
		}
	}
}

// lost returns an error if the server of the link was found not to answer.
func (k *conn) lost() error { return k.link.Lost() }

// done notes the end of a peer.
func (k *conn) done(r relay.Result) {
	k.link.Leave()
	k.ended(endedBy(r), r.Err)
	switch r.End {
	case relay.Refused:
		switch {
		case errors.Is(r.Err, relay.ErrNoStatus) && k.link.Mute():
			k.link.Fail(upstream.ErrNoAnswer)
		case errors.Is(r.Err, wire.ErrFrame) && k.link.Carried() == 0:
			// It may have taken the header and the peer's bytes for a request.
			k.link.Fail(fmt.Errorf("%w: %w", upstream.ErrForeign, r.Err))
		}
		if errors.Is(r.Err, Refusal(wire.Banned)) {
			k.debug("peer refused", slog.Any("error", k.ofServer(r.Err)))
			return
		}
		k.warn(slog.LevelWarn, "peer refused", slog.Any("error", k.ofServer(r.Err)))
	case relay.Failed:
		k.warn(slog.LevelError, "relay failed", slog.Any("error", r.Err))
	default:
		k.debug("peer gone", slog.Any("result", r))
	}
}

// refuse resets a peer.
func (k *conn) refuse(peer int, err error) {
	socket.Reset(peer)
	k.ended(blame(err), err)
	k.warn(slog.LevelWarn, "peer refused", slog.Any("error", err))
}

// ended records the end of the connection, and the party that ended it.
func (k *conn) ended(by track.Who, err error) {
	k.leave()
	k.client.Track.End(&k.record, by, err)
}

// leave subtracts the peer from those that the client counts.
func (k *conn) leave() { k.client.Peers.Leave(limit.SourcePrefix(k.header.Source.Addr())) }

// ofServer adds the name of the server to an error.
func (k *conn) ofServer(err error) error { return fmt.Errorf("server %s: %w", k.link.Server(), err) }
