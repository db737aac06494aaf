package supervisor

import (
	"time"

	"portredirector/internal/ban"
)

// verb names an order to a worker.
type verb string

const (
	doServe  verb = "serve"  // begin to serve
	doRetire verb = "retire" // accept no more peers, and end when none is left
	doDrain  verb = "drain"  // as at the first signal to a plain command
	doCut    verb = "cut"    // as at the second
	doPing   verb = "ping"   // report at once
	doTake   verb = "take"   // serve a peer of a worker that has retired
	doBan    verb = "ban"    // change the bans
)

// order is a message to a worker. Other versions may send verbs that this one does not know;
// they are ignored.
type order struct {
	Do        verb
	Timeout   time.Duration `json:",omitempty"` // of doRetire, after which it drains; 0 is none
	Succeeded bool          `json:",omitempty"` // of doRetire: another worker serves the section
	Peer      *Peer         `json:",omitempty"` // of doTake, with its socket
	Bans      *ban.Change   `json:",omitempty"` // of doBan
}

// phase names a stage in a worker's life.
type phase string

const (
	starting phase = "starting"
	prepared phase = "prepared" // it could begin to serve
	serving  phase = "serving"
	retired  phase = "retired" // or it drains
	failed   phase = "failed"  // it could not start, or go on
)

// report is a message from a worker. It tells all that there is to tell, so that a lost one
// does not matter.
type report struct {
	Phase phase
	Error string `json:",omitempty"` // of failed
	Peer  *Peer  `json:",omitempty"` // of a retired worker, for its successor, with its socket
}

// Peer is a peer of which nothing was delivered.
type Peer struct {
	Said     []byte    // what was read from it
	Ended    bool      // it says nothing more
	Deadline time.Time // for reaching a server
}
