package config

import "errors"

// Defaults and bounds of the pool of links.
const (
	DefaultPoolMin = 8
	DefaultPoolMax = 256
	MaxPool        = 1024
)

// Defaults of the bounds on links in a handshake and on links that wait for a header. A client has at most
// MaxPool idle links, and asks for 32 handshakes at once.
const (
	DefaultMaxUnfinished          = 4096
	DefaultMaxUnfinishedPerClient = 2 * MaxPool
	DefaultMaxHandshakes          = 512
	handshakesShare               = 4 // one client may have one in so many
)

// Bounds limits a number, in all and for each client or address. 0 is no limit.
type Bounds struct {
	Most    int // in all
	Each    int // of one client or address
	NewEach int // of one address in a second
}

// share returns how many handshakes one client may have; 0 is no limit.
func share(handshakes int) int {
	return (handshakes + handshakesShare - 1) / handshakesShare
}

// checkBounds validates the options that limit a number.
func (f Flags) checkBounds() (err error) {
	for _, b := range []struct {
		option string
		value  int
	}{
		{"max-peers", f.MaxPeers},
		{"max-peers-per-address", f.MaxPeersPerAddress},
		{"max-new-per-address", f.MaxNewPerAddress},
		{"max-peers-per-client", f.MaxPeersPerClient},
		{"max-unfinished", f.MaxUnfinished},
		{"max-unfinished-per-client", f.MaxUnfinishedPerClient},
		{"max-handshakes", f.MaxHandshakes},
		{"max-flows", f.MaxFlows},
	} {
		if b.value < 0 {
			err = errors.Join(err, about(b.option, 0, "--%s %d: it cannot be less than 0, which is no bound", b.option, b.value))
		}
	}
	return err
}
