package config

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"portredirector/internal/ports"
	"portredirector/internal/relay"
	"portredirector/internal/upstream"
	"portredirector/internal/wire"
)

// Client is the configuration of a client.
type Client struct {
	Servers        []string // host:port, or srv:name
	ListenLinks    string   // host:port, for servers that dial; "" is none
	Invite         *Invite  // nil is no invitation
	Balance        upstream.Balance
	PoolMin        int                   // least idle links to each server
	PoolMax        int                   // most idle links to each server; 0 is no pool
	Listen         []string              // host:port; host "" is all addresses
	ListenUDP      []string              // the same for datagrams
	Names          map[ports.Port]string // of ports in Listen and ListenUDP, for the log
	Header         wire.Form
	ConnectTimeout time.Duration // to reach the server, and again for its answer
	DrainTimeout   time.Duration
	Relay          relay.Options
	KeepAlive      net.KeepAliveConfig // of peers and links
	Heartbeat      time.Duration       // of idle links, where servers dial
	LinkIdle       time.Duration       // after which this end closes an idle link that it has opened
	LinkCongestion string              // see dial.NewCongestion
	Handshakes     Bounds              // of these servers
	Trust          Trust
	Peers          Bounds // Each and NewEach for an IPv4 address or IPv6 /64
	Flows          Bounds // of UDP; Each and NewEach as for Peers
	UDPTimeout     time.Duration
	AccessLog      AccessLog
	Notes          []string // what the user should know, a line each
}

// Invite describes an invitation of a server.
type Invite struct {
	Host string // where the server finds this client; "" is to be found out
}

// Where returns the servers in a few words.
func (c Client) Where() string {
	where := slices.Clone(c.Servers)
	if c.ListenLinks != "" {
		where = append(where, "whoever dials "+c.ListenLinks)
	}
	return strings.Join(where, " ")
}

// Literal reports whether no name has to be resolved.
func (c Client) Literal() bool { return literal(c.Servers) }

func literal(list []string) bool {
	return !slices.ContainsFunc(list, func(s string) bool {
		_, err := netip.ParseAddrPort(s)
		return err != nil
	})
}

// All returns the addresses on which the client accepts peers. UDP addresses end in "/udp".
func (c Client) All() []string {
	all := slices.Clone(c.Listen)
	for _, a := range c.ListenUDP {
		all = append(all, UDPAddress(a))
	}
	return all
}

// PeerPorts returns the ports that peers connect to.
func (c Client) PeerPorts() []ports.Range {
	var all []ports.Range
	for protocol, list := range map[ports.Protocol][]string{ports.TCP: c.Listen, ports.UDP: c.ListenUDP} {
		for _, at := range list {
			_, port, _ := net.SplitHostPort(at)
			r, _ := ports.Parse(port)
			r.Protocol = protocol
			all = append(all, r)
		}
	}
	return ports.Merge(all)
}

// Client validates the options of a client. It returns all errors that it finds, joined.
func (f Flags) Client() (Client, error) {
	c := Client{
		Header: f.Header, ConnectTimeout: f.ConnectTimeout, DrainTimeout: f.DrainTimeout,
		Relay: f.relay(), KeepAlive: f.keepAlive(), Notes: f.notes(),
		Peers: Bounds{Most: f.MaxPeers, Each: f.MaxPeersPerAddress, NewEach: f.MaxNewPerAddress},
		Flows: Bounds{Most: f.MaxFlows, Each: f.MaxPeersPerAddress, NewEach: f.MaxNewPerAddress}, UDPTimeout: f.UDPTimeout,
		Heartbeat: f.Heartbeat,
		LinkIdle:  f.LinkIdle, LinkCongestion: f.LinkCongestion,
		Handshakes: Bounds{Most: f.MaxHandshakes, Each: share(f.MaxHandshakes)},
		AccessLog:  f.AccessLog,
	}
	if len(f.Replace) > 0 {
		c.Notes = append(c.Notes, "-r is for the server; a client ignores it")
	}
	err := errors.Join(f.addServerTrust(&c), f.addServers(&c), f.addLinkListener(&c), f.addListeners(&c),
		f.checkTimes(), f.checkBounds(), f.checkAccessLog())
	if len(c.ListenUDP) > 0 && c.Header != wire.Native && c.Header != wire.V2 {
		err = errors.Join(err, about("header", 0, "--header %s: is for TCP only; UDP ports (/udp) need native or v2", c.Header))
	}
	return c, err
}
