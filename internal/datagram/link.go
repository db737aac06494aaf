package datagram

import (
	"net/netip"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/wire"
)

// FlowID is the number of a flow on its link. The client chooses it, and uses it for one flow
// during the life of a link.
type FlowID uint32

// Uplink is the client's end of a link to one server. All methods may be called by several
// goroutines at once, and none blocks.
type Uplink interface {
	// Send sends a datagram of a flow. header is the encoded header of the flow, or nil once
	// the server has answered. Send may retain both until Flush returns. It returns an error
	// if the link is unusable, but not if a datagram is lost on the way.
	Send(id FlowID, header, payload []byte) error
	// Flush sends the datagrams retained by Send.
	Flush()
	// Forget tells the server that the client has ended a flow.
	Forget(id FlowID)
}

// Answers receives the messages of servers. The client implements it. The caller must not hold a lock
// that a method of its Uplink takes. Calls for one flow are made in order. Messages about a flow of
// another link are dropped.
type Answers interface {
	// Answer receives a datagram of a flow. It does not retain payload.
	Answer(link Uplink, id FlowID, payload []byte)
	// Ended ends a flow. [wire.Draining], and a status after which another server may serve the
	// peer, move the flow instead. [UnknownFlow] makes the client send headers again.
	Ended(link Uplink, id FlowID, why Refusal)
	// Down reports that the link is lost. Its flows move to another link.
	Down(link Uplink, why error)
}

// Downlink is the server's end of a link. All methods may be called by several goroutines at
// once, and none blocks.
type Downlink interface {
	// Answer sends a datagram of the service to a flow. It may retain payload until Flush
	// returns. Datagrams that the link cannot send are dropped.
	Answer(id FlowID, payload []byte)
	// Flush sends the datagrams retained by Answer.
	Flush()
	// End tells the client that a flow has ended, if the link can carry that.
	End(id FlowID, why Refusal)
	// Remote describes the client.
	Remote() Remote
}

// Refusal tells why a server has ended or refused a flow.
type Refusal struct {
	Status wire.Status
	Left   time.Duration // of the ban, if Status is wire.Banned
}

func (r Refusal) Error() string { return r.Status.String() }

// Remote describes the other end of a server's link.
type Remote struct {
	Addr     netip.AddrPort
	Identity auth.Identity // zero if the link is not authenticated
	Still    func() error  // checks the client's certificate again; nil without one
}

// Requests receives the messages of clients. The server implements it. The caller must not hold a lock
// that a method of its Downlink takes. Calls for one flow are made in order.
type Requests interface {
	// Request receives a datagram of a flow, and its header or nil. It does not retain payload. If
	// the server does not know the flow and there is no header, it calls Downlink.End with
	// [UnknownFlow].
	Request(link Downlink, id FlowID, h *wire.Header, payload []byte)
	// Forgotten reports that the client has ended a flow.
	Forgotten(link Downlink, id FlowID)
	// Lost reports that the link is closed for sending. Its flows go on when another link brings
	// their next header.
	Lost(link Downlink)
}

// UnknownFlow is the status for a flow whose header the server has not seen, or has forgotten.
const UnknownFlow wire.Status = 255
