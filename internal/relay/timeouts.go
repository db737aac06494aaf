package relay

// hasTimeouts reports whether there may be time-outs to check.
func (w *workspace) hasTimeouts() bool {
	return w.opts.IdleTimeout > 0 || w.opts.HalfCloseTimeout > 0 || w.deadlines.Load() > 0 || len(w.young)+len(w.older) > 0
}

// checkTimeouts, once a tick, ends the flows whose time is over.
func (w *workspace) checkTimeouts() {
	w.keepAlive()
	for _, f := range w.flows.all() {
		if f.setup != nil {
			if f.setup.deadline > 0 && w.now >= f.setup.deadline {
				w.finish(f, timedOut, nil)
			} else if err := f.givesUp(); err != nil {
				w.finish(f, timedOut, err)
			}
			continue
		}
		limit := w.opts.IdleTimeout
		if half := w.opts.HalfCloseTimeout; half > 0 && f.halfClosed() && (limit == 0 || half < limit) {
			limit = half
		}
		if limit > 0 && w.now-f.active >= limit.Milliseconds() {
			w.finish(f, timedOut, nil)
		}
	}
}

// givesUp returns the reason to wait no longer for a status, if the pair has one. A pair
// that has written payload goes on waiting: it could not be given back.
func (f *flow) givesUp() error {
	if f.setup.stage != awaitingStatus || f.setup.giveUp == nil || f.dir[accepted].sent {
		return nil
	}
	return f.setup.giveUp()
}
