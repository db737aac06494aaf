package admin

import (
	"net/netip"
	"time"
)

// Status answers pathStatus. A plain process has one worker: itself.
type Status struct {
	Version    string       `json:"version"`
	Time       time.Time    `json:"time"`
	PID        int          `json:"pid"`
	Began      time.Time    `json:"began"`
	Supervisor bool         `json:"supervisor"`
	Workers    []State      `json:"workers"` // those that serve first
	Ended      []Connection `json:"ended"`   // the last ones, newest first
	Condition
	Sum
}

// Condition tells whether a process is healthy, and why not.
type Condition struct {
	Healthy bool   `json:"healthy"`
	Reason  string `json:"reason,omitempty"`
}

// Sum counts connections and their bytes, toward the service and back.
type Sum struct {
	Peers      int    `json:"peers"` // live
	PeersTotal uint64 `json:"peers_total"`
	Up         int64  `json:"up"`
	Down       int64  `json:"down"`
}

// State is the state of one client or server.
type State struct {
	WorkerSum
	Version string    `json:"version"`
	Began   time.Time `json:"began,omitzero"`
	Condition

	Ports   []Port            `json:"ports"`
	Ends    []EndCount        `json:"ends"`
	Servers []Upstream        `json:"servers,omitempty"`       // of a client
	Routes  []Route           `json:"return_routes,omitempty"` // of a server
	Limits  []Limit           `json:"limits"`
	Refused []Refusals        `json:"refused,omitempty"` // of a server
	Dropped map[string]uint64 `json:"dropped_log_lines"`
}

// WorkerSum names a worker, and counts its connections.
type WorkerSum struct {
	PID     int    `json:"pid"`
	Section string `json:"section,omitempty"`
	Role    string `json:"role,omitempty"`
	State   string `json:"state"`
	Sum
}

// The roles of a worker.
const (
	RoleClient = "client"
	RoleServer = "server"
)

// The states of a worker.
const (
	Serving  = "serving"
	Retired  = "retired"  // another worker has taken its place
	Draining = "draining" // it ends
	Silent   = "silent"   // the worker does not answer
)

// Port is a port that peers connect to.
type Port struct {
	Protocol string `json:"protocol"`
	Port     uint16 `json:"port"` // 0 stands for all without a service
	Service  string `json:"service,omitempty"`
	Target   string `json:"target,omitempty"` // of a server
	Sum

	// The means are over the connections that have ended.
	LinkWait  *Seconds `json:"link_wait,omitempty"`
	Connect   *Seconds `json:"connect,omitempty"`
	FirstByte *Seconds `json:"first_byte,omitempty"`

	Ends []EndCount `json:"ends"`
}

// EndCount counts the connections that have ended with a code.
type EndCount struct {
	Code  string `json:"code"`
	Count uint64 `json:"count"`
	Means string `json:"means"`
}

// Upstream describes a server as its client sees it.
type Upstream struct {
	Name    string         `json:"name"`
	Up      bool           `json:"up"`
	Failure string         `json:"failure,omitempty"`
	Links   map[string]int `json:"links"` // by their state
	RTT     *Seconds       `json:"rtt,omitempty"`
}

// Route is the last proof of the return route of a service's address.
type Route struct {
	Service string `json:"service"` // its address and port, with /udp for UDP
	OK      bool   `json:"ok"`
	Refuses bool   `json:"refuses"` // its peers are refused
	Finding string `json:"finding"`
	Problem string `json:"problem,omitempty"`
}

// Limit is a bound on peers or links.
type Limit struct {
	Name   string `json:"name"` // of the option
	Most   int    `json:"most"` // 0 is no bound
	Used   *int   `json:"used,omitempty"`
	Struck uint64 `json:"struck"` // how often it was reached
}

// Refusals counts links and peers that were refused for a reason.
type Refusals struct {
	Reason string `json:"reason"`
	Count  uint64 `json:"count"`
}

// Connections answers pathConnections.
type Connections struct {
	Time        time.Time    `json:"time"`
	Total       int          `json:"total"`
	Matched     int          `json:"matched"` // of these by the query
	Connections []Connection `json:"connections"`
	Next        string       `json:"next,omitempty"` // the cursor of the next page
}

// Connection describes a connection, live or ended.
type Connection struct {
	Key      Key            `json:"key"`
	ID       string         `json:"id,omitempty"` // the same on both machines
	Worker   int            `json:"worker"`       // its process
	Section  string         `json:"section,omitempty"`
	Role     string         `json:"role"`
	Protocol string         `json:"protocol"`
	Port     uint16         `json:"port"`
	Service  string         `json:"service,omitempty"`
	Peer     netip.AddrPort `json:"peer"`
	Entry    netip.AddrPort `json:"entry"`
	Link     string         `json:"link,omitempty"` // the other end of it
	Identity string         `json:"identity,omitempty"`
	Source   netip.AddrPort `json:"source,omitzero"` // that the service sees

	Phase     string    `json:"phase"`
	Began     time.Time `json:"began"`
	Linked    *Seconds  `json:"linked,omitempty"`
	Connected *Seconds  `json:"connected,omitempty"`
	FirstByte *Seconds  `json:"first_byte,omitempty"`
	Lasted    Seconds   `json:"lasted"`
	Up        int64     `json:"up"`
	Down      int64     `json:"down"`
	RateUp    int64     `json:"rate_up"` // bytes a second
	RateDown  int64     `json:"rate_down"`

	Legs map[string]Leg `json:"legs,omitempty"`

	// Of one that has ended.
	Ended time.Time `json:"ended,omitzero"`
	Code  string    `json:"code,omitempty"`
	Means string    `json:"means,omitempty"`
	Error string    `json:"error,omitempty"`
}

// The legs of a connection.
const (
	LegPeer    = "peer"
	LegLink    = "link"
	LegService = "service"
)

// Leg describes a socket of this machine, as the kernel reports it.
type Leg struct {
	RTT          Seconds `json:"rtt"`
	RTTVar       Seconds `json:"rtt_var"`
	RTTMin       Seconds `json:"rtt_min"`
	Retransmits  int     `json:"retransmits"` // segments, in the life of the socket
	Window       int     `json:"cwnd"`        // segments
	MSS          int     `json:"mss"`         // bytes
	DeliveryRate int64   `json:"delivery_rate"`
	Unsent       int     `json:"unsent"`  // bytes that wait in the socket
	Unacked      int     `json:"unacked"` // segments under way
	LastReceived Seconds `json:"last_received"`
}

// Summary is the regular event of pathEvents.
type Summary struct {
	Time time.Time `json:"time"`
	Condition
	Sum
	Workers []WorkerSum `json:"workers"`
	Missed  int         `json:"missed"` // events that were left out since the last summary
}

// Closed answers a request to close connections.
type Closed struct {
	Closed int `json:"closed"`
}

// Failure is the answer to a request that fails.
type Failure struct {
	Error string `json:"error"`
}

// Seconds is a duration.
type Seconds float64

// seconds converts a duration, rounded to a microsecond.
func seconds(d time.Duration) Seconds { return Seconds(d.Round(time.Microsecond).Seconds()) }

// maybe converts a duration, or returns nil if it is negative.
func maybe(d time.Duration) *Seconds {
	if d < 0 {
		return nil
	}
	return new(seconds(d))
}
