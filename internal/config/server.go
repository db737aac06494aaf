package config

import (
	"errors"
	"iter"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"portredirector/internal/enroll"
	"portredirector/internal/ports"
	"portredirector/internal/relay"
	"portredirector/internal/server"
)

// maxTable leaves room for the tables behind the first.
const maxTable = 1<<31 - 1000

// Server is the configuration of a server.
type Server struct {
	Listen         string                    // host:port; host "" is all addresses; "" is nowhere
	Clients        []string                  // host:port, to be dialed
	Join           *enroll.Invitation        // of one of these; nil is none
	Services       map[uint16]server.Service // by the TCP port that peers connect to
	UDPServices    map[uint16]server.Service // by the UDP port that peers send to
	DockerSocket   string                    // of the engine that is asked for containers
	Mark           uint32
	Table          int
	HeaderTimeout  time.Duration
	ConnectTimeout time.Duration
	DrainTimeout   time.Duration
	Relay          relay.Options
	KeepAlive      net.KeepAliveConfig // of links and services
	Heartbeat      time.Duration       // of idle links to clients that are dialed
	LinkIdle       time.Duration       // after which this end closes an idle link that it has opened
	LinkCongestion string              // see dial.NewCongestion
	Trust          Trust
	Allow          []netip.Prefix // from where links are taken; none is anywhere
	AllowClaim     []netip.Prefix
	DenyClaim      []netip.Prefix
	Peers          Bounds // Each for a client
	Unfinished     Bounds // links that wait for a header
	Handshakes     Bounds
	Flows          Bounds // of UDP
	UDPTimeout     time.Duration
	AccessLog      AccessLog
	Notes          []string
}

// Open reports whether anybody who can reach the server can open a link, and so pretend to be any peer.
func (s Server) Open() bool {
	host, _, _ := net.SplitHostPort(s.Listen)
	return s.Listen != "" && s.Trust.None() && len(s.Allow) == 0 && (host == "" || !isLoopback(host))
}

// Where returns the places of the clients in a few words.
func (s Server) Where() string {
	var where []string
	if s.Listen != "" {
		where = append(where, s.Listen)
	}
	for _, c := range s.Clients {
		where = append(where, "at "+c)
	}
	return strings.Join(where, " ")
}

// OnLoopback reports whether a service is on this machine's loopback.
func (s Server) OnLoopback() bool {
	for _, service := range s.All() {
		if isLoopback(service.Host) {
			return true
		}
	}
	return false
}

// services returns the services of a protocol.
func (s Server) services(p ports.Protocol) map[uint16]server.Service {
	if p == ports.UDP {
		return s.UDPServices
	}
	return s.Services
}

// Service returns the service of a port.
func (s Server) Service(p ports.Port) (service server.Service, ok bool) {
	service, ok = s.services(p.Protocol)[p.Number]
	return service, ok
}

// All returns an iterator over the services of both protocols, in the order of their ports.
func (s Server) All() iter.Seq2[ports.Port, server.Service] {
	return func(yield func(ports.Port, server.Service) bool) {
		for _, p := range []ports.Protocol{ports.TCP, ports.UDP} {
			services := s.services(p)
			for _, number := range slices.Sorted(maps.Keys(services)) {
				if !yield(ports.Port{Protocol: p, Number: number}, services[number]) {
					return
				}
			}
		}
	}
}

// Containers returns the names of containers that are services, each once.
func (s Server) Containers() []string {
	names := make(map[string]bool)
	for _, service := range s.All() {
		if name, ok := service.Container(); ok {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Literal reports whether no name has to be resolved.
func (s Server) Literal() bool {
	for _, service := range s.All() {
		if _, ok := service.Container(); !ok && service.Named() {
			return false
		}
	}
	return literal(s.Clients)
}

// Server validates the options of a server. It returns all errors that it finds, joined.
func (f Flags) Server() (Server, error) {
	s := Server{
		Mark: f.Mark, Table: f.Table, HeaderTimeout: f.HeaderTimeout,
		ConnectTimeout: f.ConnectTimeout, DrainTimeout: f.DrainTimeout,
		Services: make(map[uint16]server.Service), UDPServices: make(map[uint16]server.Service), Relay: f.relay(), KeepAlive: f.keepAlive(), Notes: f.notes(),
		Peers:      Bounds{Most: f.MaxPeers, Each: f.MaxPeersPerClient},
		Unfinished: Bounds{Most: f.MaxUnfinished, Each: f.MaxUnfinishedPerClient},
		Handshakes: Bounds{Most: f.MaxHandshakes, Each: share(f.MaxHandshakes)},
		Flows:      Bounds{Most: f.MaxFlows}, UDPTimeout: f.UDPTimeout,
		AccessLog: f.AccessLog,
		Heartbeat: f.Heartbeat,
		LinkIdle:  f.LinkIdle, LinkCongestion: f.LinkCongestion,
	}
	err := errors.Join(f.addListener(&s), f.addTrust(&s), f.addClients(&s), f.addDocker(&s), f.addServices(&s), f.addReplacements(&s),
		f.checkTable(), atLeast("header-timeout", f.HeaderTimeout, time.Millisecond), f.checkTimes(), f.checkBounds(), f.checkAccessLog())
	if s.Listen == "" && len(s.Allow) > 0 {
		s.Notes = append(s.Notes, "--allow is about who opens links to this server (-l); it dials its clients")
	}
	if len(s.Clients) == 0 && f.LinkIdle != DefaultLinkIdle {
		s.Notes = append(s.Notes, "--link-idle is about links that this server opens (-c)")
	}
	return s, err
}

// addListener adds the address on which a server takes links.
func (f Flags) addListener(s *Server) (err error) {
	switch {
	case f.Listen != "":
		s.Listen, err = f.listen()
	case len(f.Connect) == 0 && f.Join == "":
		err = errors.New("a server needs an address for its clients: -l [HOST:]PORT; or clients to dial: -c HOST:PORT")
	}
	return err
}

// checkTable validates the number of the routing table.
func (f Flags) checkTable() error {
	if f.Table < 1 || f.Table > maxTable {
		return about("table", 0, "--table %d: must be from 1 to %d", f.Table, maxTable)
	}
	return nil
}

// listen parses -l, where links are taken.
func (f Flags) listen() (string, error) {
	at, err := parseEndpoint(f.Listen)
	if err != nil {
		return "", about("listen", 0, "-l %s: %w", f.Listen, err)
	}
	if at.ports.Protocol == ports.UDP {
		return "", about("listen", 0, "-l %s: links use both protocols, write it without /udp", f.Listen)
	}
	if at.ports.Len() != 1 {
		return "", about("listen", 0, "-l %s: links are taken on one port", f.Listen)
	}
	return hostPort(at.host, at.ports.First), nil
}
