package relay

import (
	"context"
	"slices"
	"time"

	"portredirector/internal/wire"
)

// stage is a stage of a flow's life.
type stage uint8

const (
	prefacing      stage = iota // its accepted socket has to say what it wants
	connecting                  // its dialed socket is being connected
	awaitingStatus              // its dialed socket has to send a status
	open                        // bytes go both ways
	leaving                     // its pair has ended, and its link waits for the other end's terminator
	stages
)

// setup has the state of a flow until it is open.
type setup struct {
	stage    stage
	deadline int64         // of the stage, ms on the loop's clock; 0 is none
	timeout  time.Duration // of the rest of the preface, or of the status

	onData  func(said []byte) (Next, error)
	early   []byte                            // what was read before, for onData
	said    []byte                            // what onData has seen already
	next    func(ctx context.Context, fd int) // its decision to hand over
	onIdle  func(ctx context.Context, fd int)
	onError func(error)

	onStatus      func(wire.Status, wire.Ban) error // nil if there is no status
	giveUp        func() error                      // nil if only the time-out ends the wait
	onUndelivered func(ctx context.Context, u Undelivered)
	kept          []byte // what was read so far, for onUndelivered

	discarded int // bytes that came from a link that is leaving
}

// room returns how much more may be read before the status.
func (s *setup) room() int {
	if s == nil || s.onUndelivered == nil {
		return bufferSize
	}
	return MaxKept - len(s.kept)
}

// keep keeps what was read before the status.
func (s *setup) keep(b []byte) {
	if s != nil && s.onUndelivered != nil {
		s.kept = append(s.kept, b...)
	}
}

// stage returns the stage of a flow.
func (f *flow) stage() stage {
	if f.setup == nil {
		return open
	}
	return f.setup.stage
}

// startPreface makes f the flow of a preface.
func (f *flow) startPreface(w *workspace, p *Preface) {
	f.setup = &setup{stage: prefacing, onData: p.OnData, timeout: p.Timeout, early: p.Said, onIdle: p.OnIdle, onError: p.OnError}
	f.side[accepted] = newSide(p.Accepted, p.Layer, true)
	f.side[accepted].readable = p.there()
	f.side[dialed].fd = -1
	w.setDeadline(f.setup, p.IdleTimeout)
}

// there reports whether bytes may be there for which the poller reports no event.
func (p *Preface) there() bool { return len(p.Said) > 0 || p.Layer != nil }

// startPair makes f the flow of a pair. Its accepted side is already there.
func (f *flow) startPair(w *workspace, p *Pair) {
	if f.setup == nil {
		f.setup = new(setup)
	}
	w.setDeadline(f.setup, p.ConnectTimeout)
	*f.setup = setup{
		stage: connecting, deadline: f.setup.deadline, timeout: p.StatusTimeout, onStatus: p.OnStatus,
		giveUp: p.GiveUp, onUndelivered: p.OnUndelivered, kept: slices.Clip(p.Peeked),
	}
	f.side[dialed] = newSide(p.Dialed, p.DialedLayer, false)
	f.done = p.Done
	if f.meter = p.Meter; f.meter == nil {
		f.meter = new(Meter)
	}
	f.meter.flow.Store(f)
	f.dir[accepted], f.dir[dialed] = newDirection(p.UpPrefix), newDirection(p.DownPrefix)
	f.dir[accepted].eof = p.PeekedEOF
	switch p.Framed {
	case NoLink:
		f.dir[accepted].rest = append(p.UpPrefix, p.Peeked...)
	case AcceptedLink:
		f.frame(accepted, false, p.Peeked, p.OnFree)
	case DialedLink:
		f.frame(dialed, true, nil, p.OnFree)
		up := &f.dir[accepted]
		up.rest = f.side[dialed].appendFrames(p.UpPrefix, p.Peeked, p.PeekedEOF)
		if len(p.Peeked) == 0 {
			up.setExtra(len(up.rest)) // the end of a peer that has said nothing is no payload
		}
	}
	if p.Framed != AcceptedLink {
		f.meter.add(accepted, len(p.Peeked))
	}
}

// newDirection returns a direction with a prefix that is no payload.
func newDirection(prefix []byte) direction {
	dir := direction{rest: prefix}
	dir.setExtra(len(prefix))
	return dir
}

// setExtra sets the number of bytes at the head of the rest that are no payload: a header, or
// a few frames without content.
func (dir *direction) setExtra(n int) { dir.extra = uint16(n) }

// finishSetup makes a flow open, or ends its setup.
func (f *flow) finishSetup(w *workspace) {
	if f.setup != nil && f.setup.deadline > 0 {
		w.deadlines.Add(-1)
	}
	f.setup = nil
}
