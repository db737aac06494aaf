package relay

import "time"

// A status goes to its link together with the first bytes of the service, which saves a
// segment and wakes the client once. Nobody waits for a status alone, unless the peer says
// more than the client keeps. So a loop holds it back until the service says something, but
// not for long.

const (
	// holdTime bounds the time for which a status is held.
	holdTime = 5 * time.Millisecond
	// heldUp is the most that a peer may say while its status is held.
	heldUp = MaxKept / 4
)

// held is a flow whose status is held, or was.
type held struct {
	flow  *flow
	since int64 // ms on the loop's clock
}

// hold holds the rest of a flow that goes down, if there is one.
func (w *workspace) hold(f *flow) {
	if dir := &f.dir[dialed]; len(dir.rest) > 0 {
		dir.held = true
		w.held = append(w.held, held{f, w.now})
	}
}

// left returns the time until the status must go, or 0 if it has gone or must go now.
func (h held) left(now int64) time.Duration {
	if !h.flow.dir[dialed].held {
		return 0
	}
	return max(0, holdTime-time.Duration(now-h.since)*time.Millisecond)
}
