package relay

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"time"
)

// Meter counts the bytes of a live pair, and records the times of its events.
type Meter struct {
	moved [2]atomic.Int64 // by direction

	connected, firstDown atomic.Int64 // as of Now; 0 is not yet

	halfClosed, isCut atomic.Bool

	flow atomic.Pointer[flow] // nil before the pair and after its end
}

// ErrClosed is the error of a pair that Meter.Cut has ended.
var ErrClosed = errors.New("closed by an operator")

// Cut ends the pair with [Cut] and [ErrClosed], at once or when the meter gets a pair. A link
// survives if a frame can announce the end. Cut has no effect on an ended pair.
func (m *Meter) Cut() {
	m.isCut.Store(true)
	if f := m.flow.Load(); f != nil {
		f.loop.postCall(func() { f.loop.finish(f, closed, nil) })
	}
}

// IsCut reports whether Cut was called.
func (m *Meter) IsCut() bool { return m.isCut.Load() }

// start is time 0 of Now. It lies before every recorded time, so that none is 0.
var start = time.Now().Add(-time.Nanosecond)

// Now returns the time on the clock of meters, in nanoseconds.
func Now() int64 { return int64(time.Since(start)) }

// Connected returns the time at which the service was connected, or its status arrived.
func (m *Meter) Connected() int64 { return m.connected.Load() }

// FirstDown returns the time of the service's first byte.
func (m *Meter) FirstDown() int64 { return m.firstDown.Load() }

// HalfClosed reports whether one direction has finished.
func (m *Meter) HalfClosed() bool { return m.halfClosed.Load() }

// note stores the current time, unless a time is stored already.
func note(at *atomic.Int64) {
	if at.Load() == 0 {
		at.Store(Now())
	}
}

// add counts n bytes in direction d.
func (m *Meter) add(d, n int) {
	if n == 0 {
		return
	}
	if d == dialed {
		note(&m.firstDown)
	}
	m.moved[d].Add(int64(n))
}

// Up returns the number of bytes that went from the accepted socket to the dialed one.
func (m *Meter) Up() int64 { return m.moved[accepted].Load() }

// Down returns the number of bytes that went the other way.
func (m *Meter) Down() int64 { return m.moved[dialed].Load() }

// Count counts bytes that bypassed the relay.
func (m *Meter) Count(up, down int) {
	m.add(accepted, up)
	m.add(dialed, down)
}

// Connect records that the service is connected or has answered.
func (m *Meter) Connect() { note(&m.connected) }

// Result reports what a pair carried, in bytes of payload, and why it ended.
type Result struct {
	Up, Down int64
	End      End
	Err      error // the cause; nil if End is Finished or Idle, or Cut by a shutdown
}

// LogValue returns the result for a structured log.
func (r Result) LogValue() slog.Value {
	attrs := []slog.Attr{slog.Int64("up", r.Up), slog.Int64("down", r.Down), slog.String("end", r.End.String())}
	if r.Err != nil {
		attrs = append(attrs, slog.Any("error", r.Err))
	}
	return slog.GroupValue(attrs...)
}

// End is the kind of a pair's end.
type End uint8

// The ends of a pair.
const (
	Finished      End = iota // both directions ended by FIN
	AcceptedReset            // the accepted socket was reset, or timed out
	DialedReset              // the dialed socket was reset, or timed out
	Refused                  // by Pair.OnStatus, or for want of a status
	Idle                     // one of the time-outs of Options
	Cut                      // the engine was shut down before the pair finished
	Failed                   // the engine could not relay it: out of descriptors or memory, or a bug
)

// String returns the end in a few words, for a log line.
func (e End) String() string {
	switch e {
	case Finished:
		return "finished"
	case AcceptedReset:
		return "reset by the accepted side"
	case DialedReset:
		return "reset by the dialed side"
	case Refused:
		return "refused"
	case Idle:
		return "idle for too long"
	case Cut:
		return "cut"
	case Failed:
		return "failed"
	}
	return "unknown"
}
