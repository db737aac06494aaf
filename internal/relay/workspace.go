package relay

import (
	"sync/atomic"
	"time"

	"portredirector/internal/poll"
)

// bufferSize is the length of a loop's buffer.
const bufferSize = 64 << 10

// workspace has the buffers and lists that the flows of one loop share.
type workspace struct {
	opts  Options
	life  *life
	poll  *poll.Poller
	flows flows
	pipes pipes
	buf   []byte // for one read
	start time.Time
	now   int64 // the clock at the start of this round

	deadlines atomic.Int32 // flows that have one
	unacked   bool         // some side may have sent what is not acknowledged
	draining  bool         // the loop accepts no more

	held         []held  // the longest held first
	young, older []int32 // numbers of flows whose keepalive is not set, see keepAlive
}

// clock returns the loop's monotonic time in milliseconds.
func (w *workspace) clock() int64 { return time.Since(w.start).Milliseconds() }

// setDeadline bounds the time until a flow has left its stage; 0 is no bound.
func (w *workspace) setDeadline(s *setup, timeout time.Duration) {
	if s.deadline > 0 {
		w.deadlines.Add(-1)
	}
	s.deadline = 0
	if timeout > 0 {
		s.deadline = w.clock() + timeout.Milliseconds() + 1
		w.deadlines.Add(1)
	}
}

// noteSent notes that something was sent to a side.
func (w *workspace) noteSent(s *side) {
	if s.unackedSince == 0 && w.opts.DeadAfter > 0 {
		s.unackedSince = max(w.now, 1)
		w.unacked = true
	}
}

// noteConnected notes a flow whose dialed socket is connected: it needs keepalive.
func (w *workspace) noteConnected(f *flow) { w.young = append(w.young, f.number) }
