package config

import (
	"strconv"
	"time"

	"portredirector/internal/relay"
	"portredirector/internal/upstream"
	"portredirector/internal/wire"
)

// Flags holds the options of the command line as they were written.
type Flags struct {
	Connect []string // -c
	Listen  string   // -l
	Ports   []string // -p
	Replace []string // -r

	PortNames []string // names of Ports, in a file; "" is none

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
	LinkIdle         time.Duration
	LinkCongestion   string
	UDPTimeout       time.Duration

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

	AccessLog AccessLog

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
	MaxFlows               int
}

// portName returns the name of Ports[i], or "".
func (f Flags) portName(i int) string {
	if i < len(f.PortNames) {
		return f.PortNames[i]
	}
	return ""
}

// relay returns the options of the relay.
func (f Flags) relay() relay.Options {
	return relay.Options{IdleTimeout: f.IdleTimeout, HalfCloseTimeout: f.HalfCloseTimeout, DeadAfter: f.DeadAfter, KeepAlive: f.keepAlive()}
}

// notes returns a line for each option that only the original needs.
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
