// Package config turns what a user wrote into one validated configuration for
// a client or a server. It is strict and has no side effects: a [Client] or
// [Server] that it returns can be started, and an error names the option that
// is wrong, and how.
package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/enroll"
	"portredirector/internal/relay"
	"portredirector/internal/server"
	"portredirector/internal/upstream"
	"portredirector/internal/wire"
)

// Defaults of the time limits; those of the original where it has them.
const (
	DefaultConnectTimeout = 15 * time.Second
	DefaultHeaderTimeout  = 15 * time.Second
	DefaultDrainTimeout   = 10 * time.Second
	DefaultDeadAfter      = 30 * time.Second
	DefaultHeartbeat      = 25 * time.Second
)

// The pool of links: its defaults, and how many there may be at most.
const (
	DefaultPoolMin = 8
	DefaultPoolMax = 256
	MaxPool        = 1024
)

// How many links of which little is known there may be. A client has at most MaxPool of
// them in its pool, and asks for 32 handshakes at once.
const (
	DefaultMaxUnfinished          = 4096
	DefaultMaxUnfinishedPerClient = 2 * MaxPool
	DefaultMaxHandshakes          = 512
	handshakesShare               = 4 // one client may have one in so many
)

// Bounds of --dead-after: keepalive counts in seconds, and in no more than 32,767
// of them (include/net/tcp.h in the kernel).
const (
	leastDeadAfter = 3 * time.Second
	mostDeadAfter  = 12 * time.Hour
	mostHeartbeat  = time.Hour
)

// maxTable leaves room for the tables behind the first.
const maxTable = 1<<31 - 1000

// Flags are the options of the command line as they were written.
type Flags struct {
	Connect []string // -c
	Listen  string   // -l
	Ports   []string // -p
	Replace []string // -r

	Interface string // -i, of the original's container; not needed
	Threads   int    // -t, of an older original; not needed

	Balance upstream.Balance
	PoolMin int
	PoolMax int

	Header         wire.Form
	Mark           uint32
	Table          int
	ConnectTimeout time.Duration
	HeaderTimeout  time.Duration
	DrainTimeout   time.Duration

	IdleTimeout      time.Duration
	HalfCloseTimeout time.Duration
	DeadAfter        time.Duration
	Heartbeat        time.Duration

	InviteFrom *string // --invite, with the host that servers find this one by, or ""
	Join       string  // --join

	Key        string
	ServerKeys []string // of a client
	ClientKeys []string // of a server
	Clients    string
	AuthOnly   bool
	TLSCert    string
	TLSKey     string
	TLSCA      string

	DockerSocket string

	Allow      []string
	AllowClaim []string
	DenyClaim  []string

	MaxPeers               int // the bounds; 0 is none
	MaxPeersPerAddress     int
	MaxNewPerAddress       int
	MaxPeersPerClient      int
	MaxUnfinished          int
	MaxUnfinishedPerClient int
	MaxHandshakes          int
}

// Client is the configuration of a client.
type Client struct {
	Servers        []string // host:port, or srv:name
	ListenLinks    string   // host:port, for servers that dial; "" is none
	Invite         *Invite  // nil is no invitation
	Balance        upstream.Balance
	PoolMin        int      // links ahead of need, to each server
	PoolMax        int      // 0 is none
	Listen         []string // host:port; host "" is all addresses
	Header         wire.Form
	ConnectTimeout time.Duration // to reach the server, and again for its answer
	DrainTimeout   time.Duration
	Relay          relay.Options
	KeepAlive      net.KeepAliveConfig // of peers and links
	Heartbeat      time.Duration       // of links without a peer, of servers that dial
	Handshakes     Bounds              // of these servers
	Trust          Trust
	Peers          Bounds   // the second and the third for an IPv4 address or IPv6 /64
	Notes          []string // what the user should know, a line each
}

// Invite is how servers are invited.
type Invite struct {
	Host string // where they find this client; "" is to be found out
}

// PeerPorts are the ports that peers connect to.
func (c Client) PeerPorts() []auth.Ports {
	var list []int
	for _, at := range c.Listen {
		_, port, _ := net.SplitHostPort(at)
		n, _ := strconv.Atoi(port)
		list = append(list, n)
	}
	slices.Sort(list)
	var all []auth.Ports
	for _, n := range slices.Compact(list) {
		port := uint16(n) //nolint:gosec // it was read as one
		if i := len(all) - 1; i >= 0 && all[i].Last+1 == port {
			all[i].Last = port
		} else {
			all = append(all, auth.Ports{First: port, Last: port})
		}
	}
	return all
}

// Bounds say how many there may be; 0 is no bound.
type Bounds struct{ Most, Each, NewEach int }

// Server is the configuration of a server.
type Server struct {
	Listen         string                    // host:port; host "" is all addresses; "" is nowhere
	Clients        []string                  // host:port, to be dialled
	Join           *enroll.Invitation        // of one of these; nil is none
	Services       map[uint16]server.Service // by the port that peers connect to
	DockerSocket   string                    // of the engine that is asked for containers
	Mark           uint32
	Table          int
	HeaderTimeout  time.Duration
	ConnectTimeout time.Duration
	DrainTimeout   time.Duration
	Relay          relay.Options
	KeepAlive      net.KeepAliveConfig // of links and services
	Heartbeat      time.Duration       // of links without a peer, to clients that are dialled
	Trust          Trust
	Allow          []netip.Prefix // from where links are taken; none is anywhere
	AllowClaim     []netip.Prefix
	DenyClaim      []netip.Prefix
	Peers          Bounds // for each client
	Unfinished     Bounds // links that have yet to bring a header
	Handshakes     Bounds
	Notes          []string
}

// Open reports whether anybody may open a link: whoever can reach it can pretend to be
// any peer.
func (s Server) Open() bool {
	host, _, _ := net.SplitHostPort(s.Listen)
	return s.Listen != "" && s.Trust.None() && len(s.Allow) == 0 && (host == "" || !isLoopback(host))
}

// Where says in a few words where the servers are.
func (c Client) Where() string {
	where := slices.Clone(c.Servers)
	if c.ListenLinks != "" {
		where = append(where, "whoever dials "+c.ListenLinks)
	}
	return strings.Join(where, " ")
}

// Literal reports whether no name has to be resolved.
func (c Client) Literal() bool {
	return literal(c.Servers)
}

func literal(list []string) bool {
	return !slices.ContainsFunc(list, func(s string) bool {
		_, err := netip.ParseAddrPort(s)
		return err != nil
	})
}

// Where says in a few words where the clients are.
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
	for _, service := range s.Services {
		if isLoopback(service.Host) {
			return true
		}
	}
	return false
}

// Containers are the names of those that are services, each once.
func (s Server) Containers() []string {
	names := make(map[string]bool)
	for _, service := range s.Services {
		if name, ok := service.Container(); ok {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Literal reports whether no name has to be resolved.
func (s Server) Literal() bool {
	if !literal(s.Clients) {
		return false
	}
	for _, service := range s.Services {
		if _, ok := service.Container(); ok {
			continue
		}
		if service.Named() {
			return false
		}
	}
	return true
}

// Client validates the options of a client.
func (f Flags) Client() (Client, error) {
	c := Client{
		Header: f.Header, ConnectTimeout: f.ConnectTimeout, DrainTimeout: f.DrainTimeout,
		Relay: f.relay(), KeepAlive: f.keepAlive(), Notes: f.notes(),
		Peers:      Bounds{Most: f.MaxPeers, Each: f.MaxPeersPerAddress, NewEach: f.MaxNewPerAddress},
		Heartbeat:  f.Heartbeat,
		Handshakes: Bounds{Most: f.MaxHandshakes, Each: share(f.MaxHandshakes)},
	}
	var err error
	if c.Trust, err = f.trustServers(); err != nil {
		return Client{}, err
	}
	if len(f.Connect) == 0 && f.Listen == "" {
		return Client{}, fmt.Errorf("a client needs the server to connect to: -c HOST:PORT; or a port for servers that dial it: -l [HOST:]PORT")
	}
	if err := f.addServers(&c); err != nil {
		return Client{}, err
	}
	if err := f.addListenLinks(&c); err != nil {
		return Client{}, err
	}
	if len(f.Ports) == 0 {
		return Client{}, fmt.Errorf("a client needs ports to listen on: -p [HOST:]PORT")
	}
	if len(f.Replace) > 0 {
		c.Notes = append(c.Notes, "-r is for the server; a client ignores it")
	}
	taken := make(claims)
	for _, p := range f.Ports {
		if strings.Contains(p, "=") {
			return Client{}, fmt.Errorf("-p %s: a client listens on ports, the server maps them", p)
		}
		e, err := parseEndpoint(p)
		if to, serr := parseService(p); err != nil && serr == nil {
			err = fmt.Errorf("a client listens on ports, the server leads to %s", to.host)
		}
		if err != nil {
			return Client{}, fmt.Errorf("-p %s: %w", p, err)
		}
		if err := taken.add(e, p); err != nil {
			return Client{}, err
		}
		c.Listen = append(c.Listen, e.expand()...)
	}
	if c.ListenLinks != "" {
		_, port, _ := splitHost(c.ListenLinks)
		if number, _ := parsePort(port); len(taken[number]) > 0 {
			return Client{}, fmt.Errorf("-l %s: that port is for peers already (-p %d)", f.Listen, number)
		}
	}
	for _, server := range c.Servers {
		host, port, _ := splitHost(server)
		if number, _ := parsePort(port); isLoopback(host) && len(taken[number]) > 0 {
			return Client{}, fmt.Errorf("-c %s: that is this client itself (-p %d)", server, number)
		}
	}
	return c, errors.Join(f.checkTimes(), f.checkBounds())
}

// Server validates the options of a server.
func (f Flags) Server() (Server, error) {
	s := Server{
		Mark: f.Mark, Table: f.Table, HeaderTimeout: f.HeaderTimeout,
		ConnectTimeout: f.ConnectTimeout, DrainTimeout: f.DrainTimeout,
		Services: make(map[uint16]server.Service), Relay: f.relay(), KeepAlive: f.keepAlive(), Notes: f.notes(),
		Peers:      Bounds{Most: f.MaxPeers, Each: f.MaxPeersPerClient},
		Unfinished: Bounds{Most: f.MaxUnfinished, Each: f.MaxUnfinishedPerClient},
		Handshakes: Bounds{Most: f.MaxHandshakes, Each: share(f.MaxHandshakes)},
		Heartbeat:  f.Heartbeat,
	}
	if f.Listen == "" && len(f.Connect) == 0 && f.Join == "" {
		return Server{}, fmt.Errorf("a server needs an address for its clients: -l [HOST:]PORT; or clients to dial: -c HOST:PORT")
	}
	var err error
	if f.Listen != "" {
		if s.Listen, err = f.listen(); err != nil {
			return Server{}, err
		}
	}
	_, listens, _ := net.SplitHostPort(s.Listen)
	if err := f.addTrust(&s); err != nil {
		return Server{}, err
	}
	if err := f.addClients(&s); err != nil {
		return Server{}, err
	}
	// As in DOCKER_HOST.
	s.DockerSocket = strings.TrimPrefix(f.DockerSocket, "unix://")
	if strings.Contains(s.DockerSocket, "://") {
		return Server{}, fmt.Errorf("--docker-socket %s: it is a file, a Unix socket", f.DockerSocket)
	}
	if s.Listen == "" && len(s.Allow) > 0 {
		s.Notes = append(s.Notes, "--allow is about who opens links to this server (-l); it dials its clients")
	}
	if f.Table < 1 || f.Table > maxTable {
		return Server{}, fmt.Errorf("--table %d: must be from 1 to %d", f.Table, maxTable)
	}
	if err := atLeast("--header-timeout", f.HeaderTimeout, time.Millisecond); err != nil {
		return Server{}, err
	}
	if len(f.Ports) == 0 && s.Join != nil {
		for _, p := range s.Join.Ports {
			f.Ports = append(f.Ports, p.String())
		}
	}
	if len(f.Ports) == 0 {
		return Server{}, fmt.Errorf("a server needs the ports of its services: -p [HOST:]PORT")
	}
	for _, p := range f.Ports {
		if err := s.addService(p); err != nil {
			return Server{}, err
		}
	}
	for _, r := range f.Replace {
		from, to, err := parseReplace(r)
		if err != nil {
			return Server{}, fmt.Errorf("-r %s: %w", r, err)
		}
		service, ok := s.Services[from]
		if !ok {
			s.Notes = append(s.Notes, fmt.Sprintf("-r %s replaces nothing: there is no -p %d", r, from))
			continue
		}
		service.Port = to
		s.Services[from] = service
	}
	for port, service := range s.Services {
		if strconv.Itoa(int(service.Port)) == listens && isLoopback(service.Host) {
			return Server{}, fmt.Errorf("-p %d: port %d is where this server listens for its clients (-l): its peers could claim any address",
				port, service.Port)
		}
	}
	return s, errors.Join(f.checkTimes(), f.checkBounds())
}

// listen reads where links are taken: -l.
func (f Flags) listen() (string, error) {
	at, err := parseEndpoint(f.Listen)
	if err != nil {
		return "", fmt.Errorf("-l %s: %w", f.Listen, err)
	}
	if at.ports.len() != 1 {
		return "", fmt.Errorf("-l %s: links are taken on one port", f.Listen)
	}
	return hostPort(at.host, at.ports.first), nil
}

// share is how many handshakes one client may have; 0 is no bound.
func share(handshakes int) int {
	return (handshakes + handshakesShare - 1) / handshakesShare
}

// addService adds what one -p says.
func (s *Server) addService(p string) error {
	from, to, err := parseMapping(p)
	if err != nil {
		return fmt.Errorf("-p %s: %w", p, err)
	}
	for i := range from.len() {
		port := from.first + uint16(i)
		if _, twice := s.Services[port]; twice {
			return fmt.Errorf("-p %s: port %d has a service already", p, port)
		}
		s.Services[port] = server.Service{Host: loopbackFor(to.host), Port: to.ports.first + uint16(i)}
	}
	return nil
}

// isLoopback reports whether a host is this machine's loopback.
func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "" || host == "localhost" || err == nil && a.IsLoopback()
}

// loopbackFor reads "all addresses" of a service as the loopback of that
// family: a transparent dial to 0.0.0.0 would go to its own source.
func loopbackFor(host string) string {
	a, err := netip.ParseAddr(host)
	switch {
	case err != nil || !a.IsUnspecified():
		return host
	case a.Is4():
		return "127.0.0.1"
	}
	return netip.IPv6Loopback().String()
}

// relay are the options of the relay.
func (f Flags) relay() relay.Options {
	return relay.Options{IdleTimeout: f.IdleTimeout, HalfCloseTimeout: f.HalfCloseTimeout, DeadAfter: f.DeadAfter}
}

// keepAlive finds a dead path while nothing is sent: it asks after half of the
// time, and again, and gives up when it is over.
func (f Flags) keepAlive() net.KeepAliveConfig {
	if f.DeadAfter == 0 {
		return net.KeepAliveConfig{}
	}
	idle := (f.DeadAfter / 2).Truncate(time.Second)
	interval := max(f.DeadAfter/6, time.Second).Truncate(time.Second)
	return net.KeepAliveConfig{Enable: true, Idle: idle, Interval: interval, Count: int((f.DeadAfter - idle) / interval)}
}

// notes are about options that a user of the original may still give.
func (f Flags) notes() []string {
	var notes []string
	if f.Interface != "" {
		notes = append(notes, "-i "+f.Interface+" is no longer needed: nothing is set for an interface")
	}
	if f.Threads != 0 {
		notes = append(notes, "-t "+strconv.Itoa(f.Threads)+" is no longer needed: all processors are used")
	}
	return notes
}

// checkTimes checks the time limits that clients and servers share.
func (f Flags) checkTimes() error {
	return errors.Join(
		atLeast("--connect-timeout", f.ConnectTimeout, time.Millisecond),
		atLeast("--drain-timeout", f.DrainTimeout, 0),
		atLeast("--idle-timeout", f.IdleTimeout, 0),
		atLeast("--half-close-timeout", f.HalfCloseTimeout, 0),
		f.checkHeartbeat(),
		f.checkDeadAfter())
}

func (f Flags) checkHeartbeat() error {
	if f.Heartbeat > mostHeartbeat {
		return fmt.Errorf("--heartbeat %s: must be at most %s", f.Heartbeat, mostHeartbeat)
	}
	return atLeast("--heartbeat", f.Heartbeat, time.Second)
}

func (f Flags) checkDeadAfter() error {
	switch {
	case f.DeadAfter == 0:
		return nil
	case f.DeadAfter > mostDeadAfter:
		return fmt.Errorf("--dead-after %s: must be at most %s, or 0 for never", f.DeadAfter, mostDeadAfter)
	}
	return atLeast("--dead-after", f.DeadAfter, leastDeadAfter)
}

func atLeast(name string, value, least time.Duration) error {
	if value < least {
		return fmt.Errorf("%s %s: must be at least %s", name, value, least)
	}
	return nil
}

// claims are the addresses to listen on so far: for each port, the host and
// the option that named it.
type claims map[uint16]map[string]string

// add notes the addresses of e, which option said, unless one of them is
// taken: the same host, or all addresses on either side.
func (c claims) add(e endpoint, option string) error {
	for i := range e.ports.len() {
		port := e.ports.first + uint16(i)
		hosts := c[port]
		for _, host := range slices.Sorted(maps.Keys(hosts)) {
			if host == e.host || everywhere(host) || everywhere(e.host) {
				return fmt.Errorf("-p %s: port %d is in -p %s already", option, port, hosts[host])
			}
		}
		if hosts == nil {
			hosts = make(map[string]string)
			c[port] = hosts
		}
		hosts[e.host] = option
	}
	return nil
}

// everywhere reports whether a listener on host is on all addresses.
func everywhere(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "" || err == nil && a.IsUnspecified()
}
