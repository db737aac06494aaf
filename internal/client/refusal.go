package client

import (
	"errors"
	"slices"

	"portredirector/internal/relay"
	"portredirector/internal/wire"
)

// ErrNoServer refuses a peer for which no server was in use in time.
var ErrNoServer = errors.New("no server in time")

// errOwnLink refuses a link of this client that came to the client.
var errOwnLink = errors.New("it is a link of this client")

// Refusal is the error of a server that has answered another status than Connected.
type Refusal wire.Status

func (r Refusal) Error() string {
	switch status := wire.Status(r); status {
	case wire.NoService:
		return status.String() + " for this port and address family"
	case wire.NotAuthorized:
		return status.String() + ": the server does not let this client use the port"
	case wire.ClaimDenied:
		return status.String() + ": the server does not let this client bring a peer with this address"
	case wire.Internal:
		return status.String() + ", the log of the server has it"
	default:
		return status.String()
	}
}

// undelivered are the statuses after which another server may serve the peer. Each
// promises that no byte of the peer has reached a service.
var undelivered = []wire.Status{wire.Unreachable, wire.NoService, wire.Draining, wire.Internal, wire.Busy}

// Is makes r a [relay.ErrUndelivered] if another server may serve the peer.
func (r Refusal) Is(target error) bool {
	return target == relay.ErrUndelivered && slices.Contains(undelivered, wire.Status(r))
}
