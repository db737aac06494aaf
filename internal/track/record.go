package track

import (
	"net/netip"
	"time"

	"portredirector/internal/relay"
	"portredirector/internal/wire"
)

// Record describes one connection at a moment of its life, or at its end.
type Record struct {
	ID       wire.ID        // the same on both machines; zero if the form of the header has none
	Peer     netip.AddrPort // the visitor
	Entry    netip.AddrPort // where the peer connected
	Port     uint16         // of Entry, by which the service is found
	Service  string         // its name, or on a server its address
	Other    string         // the other end of the link
	Identity string         // of the other end, if it was authenticated
	Link     netip.AddrPort // this end of the link
	Source   netip.AddrPort // what the service sees; zero on a client

	Phase    Phase
	Began    time.Time
	Up, Down int64 // bytes

	// The times from the begin; NotYet is none.
	Linked    time.Duration // it has a link, or an address of the service
	Connected time.Duration // the service is connected
	FirstByte time.Duration // the service has answered
	Lasted    time.Duration // until now, or until the end

	Code Code // zero while it lives
	Err  error
}

// NotYet stands for the time of what has not come to pass.
const NotYet = time.Duration(-1)

// now returns the time on the clock of all records.
func now() int64 { return relay.Now() }

// epoch is time 0 of that clock.
var epoch = time.Now().Add(-time.Duration(relay.Now()))

// wall returns a time of the clock for people.
func wall(t int64) time.Time { return epoch.Add(time.Duration(t)) }
