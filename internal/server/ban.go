package server

import (
	"net/netip"
	"sync"

	"portredirector/internal/ban"
	"portredirector/internal/track"
	"portredirector/internal/wire"
)

// bannedError is the error for a banned peer.
type bannedError struct{ ban ban.Ban }

func (bannedError) Error() string { return "the peer is banned" }

// checkBan returns a bannedError if a peer is banned.
func (s *Server) checkBan(peer netip.Addr) error {
	if b, banned := s.Bans.Banned(peer); banned {
		return bannedError{b}
	}
	return nil
}

// refusal returns the frame that refuses a peer for an error.
func (c *conn) refusal(status wire.Status, err error) []byte {
	if banned, ok := err.(bannedError); ok { //nolint:errorlint // checkBan's is not wrapped
		if c.header.Bans {
			return wire.AppendBan(nil, wire.Ban{Left: banned.ban.Left(), Bits: banned.ban.Prefix.Bits()})
		}
		status = wire.ClaimDenied
	}
	return wire.AppendFrame(nil, wire.KindStatus, byte(status))
}

// CutBanned ends the live peers of a prefix.
func (s *Server) CutBanned(p netip.Prefix) {
	s.Track.Cut(track.Banned, func(o track.Owner) bool {
		peer, ok := o.(interface{ Peer() netip.AddrPort })
		return ok && p.Contains(peer.Peer().Addr())
	})
}

// clientAddrs collects the addresses of authenticated or allowed clients whose links have carried a header.
type clientAddrs struct {
	all sync.Map // of netip.Addr
	mu  sync.Mutex
	n   int // guarded by mu
}

// mostClientAddrs is the most addresses collected.
const mostClientAddrs = 4096

// note adds an address.
func (n *clientAddrs) note(a netip.Addr) {
	if _, known := n.all.Load(a); known {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.n < mostClientAddrs {
		if _, known := n.all.LoadOrStore(a, struct{}{}); !known {
			n.n++
		}
	}
}

// ClientAddrs returns the addresses from which clients have brought peers.
func (s *Server) ClientAddrs() (all []netip.Addr) {
	s.clients.all.Range(func(a, _ any) bool {
		all = append(all, a.(netip.Addr)) //nolint:errcheck,forcetypeassert // note stores nothing else
		return true
	})
	return all
}
