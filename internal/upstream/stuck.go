package upstream

import (
	"log/slog"
	"time"
)

// A reverse server can hang and not die, while its kernel keeps the control stream alive.
// A link that arrives shows that its program works: the program has opened it just now.
// So the server is left out if links are overdue, and used again when one arrives. Links
// are requested for that while peers wait for an answer, and now and then without any.

const (
	// overdueSuspect is the time without a requested link after which peers go to other
	// servers.
	overdueSuspect = 1500 * time.Millisecond
	// overdueStuck is that after which the server is left out.
	overdueStuck = 3 * time.Second
)

// checkOpening is called once a second.
func (r *ReverseServer) checkOpening() {
	overdue, quiet := r.pool.overdue()
	switch {
	case overdue > overdueStuck && r.stuck.CompareAndSwap(false, true):
		r.lost.Store(r.set.clock())
		r.best.Store(nil)
		r.set.cfg.Log.Warn("server opens no links, leaving it out", slog.String("server", r.name))
		r.set.announce() // the peers that wait for it choose anew
	case overdue > overdueSuspect && !r.stuck.Load() && !r.suspect.Swap(true):
		r.order(1) // a single link may be lost
		r.set.announce()
	case overdue == 0 && (r.stuck.Load() || r.silent() || quiet > max(r.set.cfg.Heartbeat, idleAfter)):
		r.order(1)
	}
}

// opens notes that the server has opened a link.
func (r *ReverseServer) opens() {
	r.asked.Store(0)
	r.suspect.Store(false)
	if r.stuck.CompareAndSwap(true, false) {
		r.set.cfg.Log.Info("server is back", slog.String("server", r.name))
		r.use()
	}
}
