package relay

import (
	"context"
	"fmt"
)

// action says how a flow ends.
type action uint8

const (
	impossible     action = iota // the event does not happen in this stage
	ignore                       // the flow lives on
	closeBoth                    // in order, and call Done
	resetBoth                    // by RST, and call Done
	report                       // reset, and call OnError
	giveNext                     // give the accepted socket to Next.HandOver
	giveIdle                     // to OnIdle, if it has said nothing; else report
	returnAccepted               // to OnUndelivered, if it is set; else resetBoth
	returnUnsent                 // the same, if no payload was written; else resetBoth
	free                         // give the link to OnFree
	lose                         // reset the link, and call OnError
)

// ending is an entry of the table.
type ending struct {
	action action
	end    End   // of Done
	err    error // if the event comes without one
	greet  bool  // write DownPrefix first: the dialed socket was connected
}

// endings has an ending for each event in each stage.
var endings = [stages][events]ending{
	prefacing: {
		acceptedBroke: {action: report},
		rejected:      {action: report},
		handedOver:    {action: giveNext},
		timedOut:      {action: giveIdle, err: ErrTimeout},
		expired:       {action: giveIdle, err: ErrExpired},
		closed:        {action: ignore},
		cut:           {action: report, err: ErrCut},
		failed:        {action: report},
	},
	connecting: {
		acceptedBroke: {action: resetBoth, end: AcceptedReset},
		dialedBroke:   {action: resetBoth, end: DialedReset, greet: true},
		connectFailed: {action: returnAccepted, end: Refused},
		timedOut:      {action: returnAccepted, end: Refused, err: ErrTimeout},
		expired:       {action: ignore},
		closed:        {action: resetBoth, end: Cut, err: ErrClosed},
		cut:           {action: resetBoth, end: Cut},
		failed:        {action: resetBoth, end: Failed},
	},
	awaitingStatus: {
		acceptedBroke: {action: resetBoth, end: AcceptedReset},
		dialedBroke:   {action: returnUnsent, end: Refused},
		refused:       {action: resetBoth, end: Refused},
		declined:      {action: returnAccepted, end: Refused},
		timedOut:      {action: returnUnsent, end: Refused, err: ErrNoStatus},
		expired:       {action: ignore},
		closed:        {action: resetBoth, end: Cut, err: ErrClosed},
		cut:           {action: resetBoth, end: Cut},
		failed:        {action: resetBoth, end: Failed},
	},
	open: {
		finished:      {action: closeBoth, end: Finished},
		acceptedBroke: {action: resetBoth, end: AcceptedReset},
		dialedBroke:   {action: resetBoth, end: DialedReset, greet: true},
		timedOut:      {action: resetBoth, end: Idle},
		expired:       {action: ignore},
		closed:        {action: resetBoth, end: Cut, err: ErrClosed},
		cut:           {action: resetBoth, end: Cut},
		failed:        {action: resetBoth, end: Failed},
	},
	leaving: {
		finished:      {action: free},
		acceptedBroke: {action: lose},
		dialedBroke:   {action: lose},
		timedOut:      {action: lose},
		expired:       {action: lose},
		closed:        {action: ignore},
		cut:           {action: lose},
		failed:        {action: lose},
	},
}

// finish ends a flow as the table says. Nothing else does.
func (w *workspace) finish(f *flow, ev event, err error) {
	if f.ended || ev == nothing {
		return
	}
	e := endings[f.stage()][ev]
	if e.action == impossible {
		e, err = endings[f.stage()][failed], fmt.Errorf("event %d in stage %d: %w", ev, f.stage(), err)
		ev = failed
	}
	if err == nil {
		err = e.err
	}
	s := f.setup
	switch e.decide(f, ev) {
	case ignore:
	case giveNext:
		w.handOver(f, s.next)
	case giveIdle:
		w.handOver(f, s.onIdle)
	case returnAccepted:
		u := Undelivered{Peeked: s.kept, PeekedEOF: f.dir[accepted].eof, Err: err}
		w.life.pairs.Add(-1)
		fd := w.takeAccepted(f)
		w.end(f, ev, err, false)
		w.life.start(func(ctx context.Context) {
			u.Accepted = fd
			s.onUndelivered(ctx, u)
		})
	case report:
		w.remove(f, false)
		w.life.endPreface(s.onError, err)
	case free:
		l, _ := f.link()
		f.freeLink(w, l)
		w.remove(f, true)
		w.life.live.Done()
	case lose:
		if s.onError != nil && err != nil {
			s.onError(err)
		}
		w.remove(f, false)
		w.life.live.Done()
	default:
		if dir := &f.dir[dialed]; e.greet && dir.extra > 0 {
			// Without the prefix the client would try again with a peer that was connected.
			n, _ := f.side[accepted].write(dir.rest[:dir.extra])
			dir.wrote(n)
			dir.rest = dir.rest[n:]
		}
		result := Result{Up: f.meter.Up(), Down: f.meter.Down(), End: e.end, Err: err}
		done := f.done
		w.end(f, ev, err, e.action == closeBoth)
		w.life.endPair(done, result)
	}
}

// end closes what is left of a pair, by RST unless the pair has finished. Its link is given
// away if it is free. If it may become free the flow lives on for it, else the link is reset.
func (w *workspace) end(f *flow, ev event, err error, finished bool) {
	l, ok := f.link()
	if !ok {
		w.remove(f, finished)
		return
	}
	parts, awaits := f.partLink(l, ev, err)
	if s := &f.side[l]; parts && awaits && !s.watched { // its pair was not connected
		parts = s.watch(w.poll, f.number, int32(l), watched) == nil
		s.readable = true // perhaps, in its layer
	}
	switch {
	case !parts:
		w.remove(f, finished)
	case !awaits:
		f.freeLink(w, l)
		w.remove(f, finished)
	default:
		f.closeDirections(w)
		f.side[1-l].close(finished)
		f.done = nil
		f.startLeaving(w)
		w.life.live.Add(1)
		if s := &f.side[l]; s.hasMore() { // of which no event may tell
			s.awaited = true
			_ = w.poll.Modify(int(s.fd), watched|writable, f.number, int32(l))
		}
	}
}

// decide resolves the actions that depend on more than stage and event.
func (e ending) decide(f *flow, ev event) action {
	switch e.action {
	case giveIdle:
		switch {
		case f.silent() && f.setup.onIdle != nil:
			return giveIdle
		case ev == expired && len(f.setup.said) == 0 && !f.silent():
			return ignore // its first bytes are there, and about to be read
		}
		return report
	case returnUnsent, returnAccepted:
		if f.setup.onUndelivered == nil || e.action == returnUnsent && f.dir[accepted].sent {
			return resetBoth
		}
		return returnAccepted
	default:
		return e.action
	}
}

// remove takes a flow out of the loop and closes it: by RST unless it has finished.
func (w *workspace) remove(f *flow, finished bool) {
	f.ended = true
	if f.meter != nil {
		f.meter.flow.CompareAndSwap(f, nil)
	}
	f.finishSetup(w)
	w.flows.remove(f)
	f.close(w, finished)
}

// handOver removes a flow and gives its accepted socket away, on a goroutine that the
// engine waits for.
func (w *workspace) handOver(f *flow, to func(ctx context.Context, fd int)) {
	fd := w.takeAccepted(f)
	w.remove(f, false)
	w.life.start(func(ctx context.Context) { to(ctx, fd) })
}

// takeAccepted takes the accepted socket out of a flow.
func (w *workspace) takeAccepted(f *flow) (fd int) {
	a := f.side[accepted]
	if a.watched {
		w.poll.Remove(int(a.fd))
	}
	f.side[accepted] = side{fd: -1, writable: true}
	return int(a.fd)
}
