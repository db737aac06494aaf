package track

import (
	"net/netip"
	"time"

	"portredirector/internal/ports"
	"portredirector/internal/relay"
	"portredirector/internal/wire"
)

// Record is a snapshot of one connection, live or ended.
type Record struct {
	Number   uint64 // of the connection in its table; later ones have larger numbers
	Protocol ports.Protocol
	// Meter is that of the connection, by which the relay knows it.
	Meter *relay.Meter

	ID       wire.ID        // the same on both machines; zero if the header has none
	Peer     netip.AddrPort // the visitor
	Entry    netip.AddrPort // where the peer connected
	Port     uint16         // of Entry; it selects the service
	Service  string         // its name; on a server without a name, its address
	Other    string         // the other end of the link
	Identity string         // of the other end, if it was authenticated
	Link     netip.AddrPort // this end of the link
	Source   netip.AddrPort // what the service sees; zero on a client

	Phase    Phase
	Began    time.Time
	Up, Down int64 // bytes

	// The times since Began, or NotYet.
	Linked    time.Duration // a link, or an address of the service, was there
	Connected time.Duration // the service was connected
	FirstByte time.Duration // the service's first byte came
	Lasted    time.Duration // until the end, or until now

	Code Code // zero while it lives
	Err  error
}

// NotYet is the duration until an event that has not happened.
const NotYet = time.Duration(-1)

// now returns the time on the clock of all records.
func now() int64 { return relay.Now() }

// epoch is time 0 of that clock.
var epoch = time.Now().Add(-time.Duration(relay.Now()))

// wall converts a time of the clock.
func wall(t int64) time.Time { return epoch.Add(time.Duration(t)) }
