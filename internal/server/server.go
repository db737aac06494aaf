package server

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/ban"
	"portredirector/internal/limit"
	"portredirector/internal/logging"
	"portredirector/internal/ports"
	"portredirector/internal/relay"
	"portredirector/internal/socket"
	"portredirector/internal/track"
	"portredirector/internal/wire"
)

// Server serves any number of links. Its fields must be set before the first Handle.
type Server struct {
	Services map[uint16]Service // by the TCP port that peers connect to
	UDP      map[uint16]Service // by the UDP port that peers send to
	Book     Book
	Dialer   *socket.TransparentDialer
	Relay    *relay.Engine
	Routes   Routes
	Log      *slog.Logger

	FlowRoutes FlowRoutes // nil without UDP services

	// Permissions; see also [Server.authorize].
	Allow   []netip.Prefix      // the sources of links; none allows all
	Secure  *auth.Acceptor      // authenticates links; nil takes plain ones
	Clients func() auth.Clients // the known clients, by key; nil is every client with a certificate
	Claims  Claims              // the peers that links may speak for; nil allows all
	Bans    *ban.List           // of peers; nil bans nobody

	KeepAlive      net.KeepAliveConfig // of links that this server has opened, once they have a peer
	LinkIdle       time.Duration       // after which this server closes an idle link that it has opened
	HeaderTimeout  time.Duration       // for a header that has begun, and for a handshake
	ConnectTimeout time.Duration       // for reaching the service, including its name

	// Bounds on links that cost descriptors. A link is idle before its first peer and between
	// two. If there are too many, the oldest gets a bye, which tells its client that nothing
	// was delivered, and ends.
	Unfinished limit.Oldest[Origin] // links that wait for a header; with Secure, for a handshake
	Handshakes limit.Oldest[Origin] // links in their handshake
	Known      limit.Oldest[Origin] // authenticated links that wait for a header
	Leaving    limit.Oldest[Origin] // links of refused peers, which wait for the client's terminator
	Peers      limit.Peers[Origin]
	Track      track.Table

	// Try checks whether a service's replies to a claim come back, without a connection that
	// the service accepts. If Try is nil, trials are answered like health checks.
	Try    func(ctx context.Context, claim netip.Addr, service ports.Endpoint) (wire.Finding, error)
	trying sync.Mutex // held during a trial

	Tell    logging.Throttle[Subject] // logs what strangers can cause
	refused refusals
	clients clientAddrs
}

// Subject groups similar log lines.
type Subject struct {
	Net    netip.Prefix // the network of the link's other end
	Status wire.Status  // of a peer that was refused
}

// String returns the network.
func (s Subject) String() string { return s.Net.String() }

// Origin identifies a client: by its key, its certificate, or its network.
type Origin struct {
	Net  netip.Prefix
	Key  auth.PublicKey
	Name string
}

// Routes sets up return routes. A *route.Manager does.
type Routes interface {
	// Ready returns the mark of a dial to a service. It reports false if there is no
	// return route yet.
	Ready(service ports.Endpoint) (mark uint32, ok bool)
	// Mark sets up the return route first. It may block.
	Mark(ctx context.Context, service ports.Endpoint) (mark uint32, err error)
}

// FlowRoutes sets up return routes for UDP. A *route.Manager does.
type FlowRoutes interface {
	// ReadyFlow returns the address that a UDP flow of a claim dials, and its mark. It returns
	// false if there is no return route yet.
	ReadyFlow(service netip.AddrPort, claim netip.Addr) (to netip.AddrPort, mark uint32, ok bool)
	// MarkFlow sets up the return route first. It may block.
	MarkFlow(ctx context.Context, service netip.AddrPort, claim netip.Addr) (to netip.AddrPort, mark uint32, err error)
}

// Claims decides which peers a link may speak for. A *claim.Policy does.
type Claims interface {
	// Check returns an error if nobody may claim an address.
	Check(claim netip.Addr) error
	// CheckService returns an error if a service could not reply to a claim. It does not
	// block.
	CheckService(claim, service netip.Addr) error
}
