package track

// Code says how a connection ended in two letters: who ended it, and in which phase. It is
// modeled on the termination state of HAProxy (configuration manual, 8.5).
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
	Limit   Who = 'M' // a bound on number or time
	Admin   Who = 'A' // an operator, or a shutdown
)

// Phase is the part of its life in which a connection is, or ended.
type Phase byte

// The phases, in their order.
const (
	Queue   Phase = 'Q' // it waits: on a client for a link, on a server for an address of the service
	Connect Phase = 'C' // on a client it awaits the server's status, on a server the service is dialed
	Data    Phase = 'D' // bytes go both ways
	Last    Phase = 'L' // one direction has finished
	Over    Phase = '-' // both have
)

// Finished is the code of a connection whose directions have both finished.
var Finished = Code{Nobody, Over}

// String returns the two letters.
func (c Code) String() string {
	if c == (Code{}) {
		return ""
	}
	return string([]byte{byte(c.Who), byte(c.Phase)})
}
