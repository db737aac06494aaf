package track

// Code tells in two letters who ended a connection, and in which phase. It is modeled on
// HAProxy's termination state (configuration manual, 8.5).
type Code struct {
	Who   Who
	Phase Phase
}

// Who is the party that ended a connection.
type Who byte

// The parties.
const (
	Nobody  Who = '-' // both directions finished
	Peer    Who = 'P' // the visitor
	Client  Who = 'C' // our program on M1
	Link    Who = 'L' // the connection between client and server
	Server  Who = 'S' // our program on M2
	Service Who = 'V' // the target
	Limit   Who = 'M' // a limit on number or time
	Admin   Who = 'A' // an operator, or a shutdown
	Banned  Who = 'B' // an operator's ban of the peer's address
)

// Phase is the stage that a connection is in, or ended in.
type Phase byte

// The phases, in their order.
const (
	Queue   Phase = 'Q' // a client waits for a link, a server for an address of the service
	Connect Phase = 'C' // a client waits for the server's status, a server dials the service
	Data    Phase = 'D' // bytes go both ways
	Last    Phase = 'L' // one direction has finished
	Over    Phase = '-' // both directions have finished
)

// Finished is the code of a connection that ended in order, in both directions.
var Finished = Code{Nobody, Over}

// String returns the two letters, or "" for a live connection.
func (c Code) String() string {
	if c == (Code{}) {
		return ""
	}
	return string([]byte{byte(c.Who), byte(c.Phase)})
}
