package relay

import (
	"os"

	"portredirector/internal/socket"
)

// flow is one connection in a loop: a preface, a pair, or first the one and then the
// other.
type flow struct {
	loop  *loop
	meter *Meter
	side  [2]side
	dir   [2]direction // dir[d] carries from side[d] to side[1-d]
	setup *setup       // nil once the flow is open
	done  func(Result)

	active int64 // when it last carried something, ms on the loop's clock
	number int32 // in the loop
	queued bool  // is in the loop's queue
	ended  bool

	keepAlive bool // was set
}

// event names the outcome of a step. Any but nothing goes to finish.
type event uint8

const (
	nothing       event = iota // the flow lives on
	finished                   // both directions have ended, and all is delivered
	acceptedBroke              // the accepted socket was reset, or timed out
	dialedBroke                // the dialed socket was; or it ended before its status
	connectFailed              // the dialed socket could not be connected
	rejected                   // Preface.OnData returned an error, or the socket ended
	handedOver                 // Preface.OnData gives the socket away
	refused                    // Pair.OnStatus returned an error
	declined                   // Pair.OnStatus returned an ErrUndelivered
	timedOut                   // a time-out is over
	expired                    // Pending.Expire was called
	closed                     // Meter.Cut was called
	cut                        // Shutdown's deadline has expired
	failed                     // out of descriptors or memory, or a bug
	events
)

// step moves a flow on, as far as the sockets or its turn allow. It
// reports whether there is more to do without waiting, or what ends the flow.
func (f *flow) step(w *workspace) (more bool, ev event, err error) {
	switch f.stage() {
	case prefacing:
		ev, err := f.readPreface(w)
		return false, ev, err
	case connecting:
		if ev, err := f.finishConnect(w); ev != nothing || f.stage() == connecting {
			return false, ev, err
		}
	case leaving:
		return f.readLeaving(w)
	default:
	}
	if f.stage() == awaitingStatus {
		// The status comes before the reset that may follow it.
		if ev, err := f.readStatus(w); ev != nothing {
			return false, ev, err
		}
	}
	for s := range f.side {
		if f.side[s].failed {
			if more, ev, err := f.takeError(w, s); more || ev != nothing {
				return more, ev, err
			}
		}
	}
	return f.pumpBoth(w)
}

// takeError asks a side for its error. What came before the error goes on first; asking
// would make the rest look like an end.
func (f *flow) takeError(w *workspace, s int) (more bool, ev event, err error) {
	if s == accepted || f.setup == nil {
		more, broken, err := f.pump(w, s)
		if err != nil {
			ev, err := f.breakDown(w, broken, err)
			return false, ev, err
		}
		if more {
			return true, nothing, nil
		}
	}
	f.side[s].failed = false
	if l, ok := f.link(); ok && l == s && f.linkOver(l) {
		return false, nothing, nil // it broke behind the exchange
	}
	if err := socket.Error(int(f.side[s].fd)); err != nil {
		f.side[s].broken = true
		return false, brokeEvent(s), os.NewSyscallError("recv", err)
	}
	return false, nothing, nil
}

// pumpBoth moves bytes in both directions. Nothing goes down before the status.
func (f *flow) pumpBoth(w *workspace) (more bool, ev event, err error) {
	for d := range f.dir {
		if d == dialed && f.setup != nil {
			continue
		}
		again, broken, err := f.pump(w, d)
		if err != nil {
			ev, err := f.breakDown(w, broken, err)
			return false, ev, err
		}
		more = more || again
		if to := &f.side[1-d]; !to.writable && !to.awaited {
			to.awaited = true
			if err := w.poll.Modify(int(to.fd), watched|writable, f.number, int32(1-d)); err != nil {
				return false, failed, err
			}
		}
	}
	if l, ok := f.link(); ok && f.linkOver(l) {
		f.freeLink(w, l)
	}
	if f.dir[0].finished && f.dir[1].finished {
		// Until all is delivered, a drain is not over and the return route stays. The last
		// acknowledgement changes the state of the socket, which is an event
		// (tcp_rcv_state_process in the kernel's tcp_input.c).
		if f.side[accepted].delivered() && f.side[dialed].delivered() {
			return false, finished, nil
		}
		return false, nothing, nil
	}
	return more, nothing, nil
}

// breakDown returns the event of an error on one side. A link that refused may
// be broken before its status was read, which tells more.
func (f *flow) breakDown(w *workspace, broken int, err error) (event, error) {
	if f.setup != nil && broken == dialed {
		f.side[dialed].readable = true
		if ev, err := f.readStatus(w); ev != nothing {
			return ev, err
		}
	}
	return brokeEvent(broken), err
}

// halfClosed reports whether one direction has ended.
func (f *flow) halfClosed() bool { return f.dir[0].finished || f.dir[1].finished }

// close gives back what the flow holds: its sockets by RST unless it has finished.
func (f *flow) close(w *workspace, finished bool) {
	f.closeDirections(w)
	for s := range f.side {
		fr := f.side[s].frames
		f.side[s].close(finished)
		if fr != nil && fr.onFree != nil {
			f.side[s].frames = nil
			fr.onFree(-1, nil)
		}
	}
}

// closeDirections discards what is under way.
func (f *flow) closeDirections(w *workspace) {
	for d := range f.dir {
		if p := f.dir[d].pipe; p != nil {
			w.pipes.put(p)
		}
		f.dir[d] = direction{finished: true}
	}
}
