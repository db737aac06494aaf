package relay

import "time"

// A loop holds a status back for a short time, and sends it with the service's first bytes.
// That saves a segment, and the client wakes once. A client needs the status alone only if the
// peer sends more than the client keeps for another attempt.

const (
	// holdTime is the longest time for which a status is held.
	holdTime = 5 * time.Millisecond
	// heldUp is the number of the peer's bytes after which a status is no longer held.
	heldUp = MaxKept / 4
)

// held is a flow whose status is held, or has been sent since.
type held struct {
	flow  *flow
	since int64 // ms on the loop's clock
}

// hold holds back what a flow has to write to its link, if there is anything.
func (w *workspace) hold(f *flow) {
	if dir := &f.dir[dialed]; len(dir.rest) > 0 {
		dir.held = true
		w.held = append(w.held, held{f, w.now})
	}
}

// left returns the time until the status must be sent, or 0 if it was sent or is due.
func (h held) left(now int64) time.Duration {
	if !h.flow.dir[dialed].held {
		return 0
	}
	return max(0, holdTime-time.Duration(now-h.since)*time.Millisecond)
}
