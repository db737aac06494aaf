package wire

import "fmt"

// Status is the answer of a server to a header that asks for it ([Header].Answer). Any
// Status but [Connected] ends the exchange, and no byte of the peer has reached a service.
type Status byte

// The status codes of the wire format, see PROTOCOL.md.
const (
	Connected     Status = iota // the service accepted: its bytes follow
	Refused                     // the service refused the connection
	Unreachable                 // the service did not answer in time, or is unreachable
	NoService                   // nothing is configured for that destination here
	ClaimDenied                 // the sender may not speak for that source
	NotAuthorized               // the sender may not use this server
	Draining                    // the server takes no new peers
	Internal                    // the server could not: out of descriptors and the like
	Busy                        // the server has as many peers as it takes
	Banned                      // the peer's address is banned for a while, see Ban
)

// statusNames holds the codes in words, for logs.
var statusNames = [...]string{
	Connected:     "connected",
	Refused:       "refused",
	Unreachable:   "unreachable",
	NoService:     "no service",
	ClaimDenied:   "claim denied",
	NotAuthorized: "not authorized",
	Draining:      "draining",
	Internal:      "internal error",
	Busy:          "busy",
	Banned:        "banned",
}

// Known reports whether a server of this project writes s. Any other byte promises
// nothing.
func (s Status) Known() bool { return s <= Banned }

// String returns the code in words, or the number of a code that is not [Status.Known].
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("status %d", byte(s))
}
