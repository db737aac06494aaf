package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"portredirector/internal/dial"
)

// A server can hang and not die: it is stopped, its disk or virtual machine is stuck, it
// has no descriptors left. Its kernel goes on accepting links and answering keepalive.
// So the program is asked over a new link, which goes to the pool then: before links are
// opened ahead, when peers wait and nobody was answered for a second, and now and then
// without any peer.

const (
	// idleAfter is the time without any answer after which an idle program is asked.
	idleAfter = 10 * time.Second
	// suspectAfter is the time without an answer to a probe after which peers go to
	// other servers. It allows for a handshake over a long way and a lost SYN.
	suspectAfter = 1500 * time.Millisecond
)

// The states of a probe.
const (
	probeNone = iota
	probeDue  // the task of the server is to start it
	probeRuns
)

// proven reports whether links may be opened ahead: the program has answered once.
func (d *dialed) proven() bool { return !d.set.cfg.Answers || d.answered.Load() > 0 }

// probeIfDue makes the task of the server ask the program.
func (d *dialed) probeIfDue() {
	if !d.set.cfg.Answers || d.best.Load() == nil {
		return
	}
	idle := d.set.pooling() && (!d.proven() || d.set.clock()-d.answered.Load() > int64(idleAfter))
	if (idle || d.silent()) && d.probe.CompareAndSwap(probeNone, probeDue) {
		d.wake()
	}
}

// startProbe asks the program if that is due.
func (d *dialed) startProbe(ctx context.Context, probes *sync.WaitGroup) {
	if !d.probe.CompareAndSwap(probeDue, probeRuns) {
		return
	}
	probes.Go(func() {
		defer d.probe.Store(probeNone)
		if best := d.best.Load(); best != nil {
			d.ask(ctx, *best)
		}
	})
}

// ask asks the program. A server that does not answer is left out.
func (d *dialed) ask(ctx context.Context, at netip.AddrPort) {
	began := d.set.clock()
	suspecting := make(chan struct{})
	timer := time.AfterFunc(suspectAfter, func() {
		defer close(suspecting)
		d.suspect.Store(true)
	})
	l, err := d.openFirst(ctx, []netip.AddrPort{at})
	if !timer.Stop() {
		<-suspecting // what comes now is newer
	}
	switch {
	case err == nil:
		d.answers()
		d.set.deliver(d.server, l)
		d.maintain()
	case ctx.Err() != nil || dial.Exhausted(err) || d.answered.Load() > began:
		d.suspect.Store(false) // it shows nothing of the server
	default:
		d.lose(at, err)
	}
}

// openFirst opens a link to the address that answers first. If servers answer, the
// program must do so. The address is that of the link, also if nothing else is left of
// it, and also with an error if it connected.
func (d *dialed) openFirst(ctx context.Context, addrs []netip.AddrPort) (pooled, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, min(tryTimeout, d.set.cfg.ConnectTimeout), dial.ErrTimeout)
	defer cancel()
	fd, winner, err := d.set.dial.Race(ctx, addrs)
	if err != nil {
		return none, err
	}
	l := pooled{fd: fd, to: winner}
	if d.set.cfg.Auth != nil {
		if l, err = d.authenticate(ctx, fd, winner); err != nil {
			return pooled{fd: -1, to: winner}, err
		}
	}
	if !d.set.cfg.Answers {
		return l, nil
	}
	l, usable, err := ask(ctx, l)
	if err != nil || !usable {
		l.close()
		l = pooled{fd: -1, to: winner}
	}
	if errors.Is(err, dial.ErrTimeout) {
		return l, ErrNoAnswer
	} else if err != nil {
		return l, fmt.Errorf("ask the server: %w", err)
	}
	return l, nil
}

// lose leaves out a server whose program does not answer. Its links are closed, because
// nobody has accepted them, or will.
func (d *dialed) lose(at netip.AddrPort, err error) {
	d.lost.Store(d.set.clock())
	d.fail(at, err)
	d.pool.drop(func(l *pooled) bool { return l.to == at })
	d.suspect.Store(false)
}
