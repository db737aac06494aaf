package upstream

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"portredirector/internal/auth"
)

// Pauses between the tries of a failed server.
const (
	minBackoff     = 50 * time.Millisecond
	maxBackoff     = 30 * time.Second
	maxWhileWaited = time.Second // while peers wait for the server
	// maxUntrusted is for a server with a wrong key, which is in use soon after somebody
	// has mended that.
	maxUntrusted = 5 * time.Second
)

// run tries the server again while it is left out, and opens authenticated links, until
// ctx is canceled.
func (d *dialed) run(ctx context.Context) {
	var openers sync.WaitGroup
	for ctx.Err() == nil {
		d.openOrdered(ctx, &openers)
		d.startProbe(ctx, &openers)
		pause := d.untilTry()
		if pause == 0 {
			d.try(ctx)
			continue
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-d.woken:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	d.best.Store(nil)
	openers.Wait()
	d.pool.close()
}

// untilTry returns the time until the next try.
func (d *dialed) untilTry() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.best.Load() != nil {
		return time.Hour // or until it is woken
	}
	pause := d.pause
	if d.set.waiting.Load() > 0 {
		pause = min(pause, maxWhileWaited)
	}
	return max(0, time.Until(d.tried.Add(pause)))
}

// try finds the address that answers first.
func (d *dialed) try(ctx context.Context) {
	d.mu.Lock()
	addrs := slices.Clone(d.addrs)
	d.mu.Unlock()
	l, err := d.openFirst(ctx, addrs)
	if err != nil && ctx.Err() != nil {
		return // it shows nothing of the server
	}
	d.mu.Lock()
	if err == nil && !slices.Contains(d.addrs, l.to) {
		l.close()
		d.mu.Unlock()
		return // the addresses have changed meanwhile
	}
	// The addresses behind the winner come first in the next race.
	if i := slices.Index(d.addrs, l.to); i >= 0 {
		d.addrs = append(slices.Clone(d.addrs[i+1:]), d.addrs[:i+1]...)
	}
	if err != nil {
		d.backOffLocked(err)
		d.mu.Unlock()
		d.group.resolveSoon()
		return
	}
	d.best.Store(&l.to)
	d.mu.Unlock()
	d.answers()
	d.set.deliver(d.server, l)
	d.set.announce()
	d.maintain()
}

func (d *dialed) fail(at netip.AddrPort, err error) {
	if d.leaveOut(at, err) {
		d.wake()
		d.set.announce() // the peers that wait for it choose anew
		d.set.demand()
	}
}

// leaveOut leaves the server out after a failure of an address, and reports whether it was
// in use there.
func (d *dialed) leaveOut(at netip.AddrPort, err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.self = d.self || errors.Is(err, ErrSelf)
	best := d.best.Load()
	if best == nil || *best != at {
		return false
	}
	d.best.Store(nil)
	d.pool.giveUp(at)
	d.backOffLocked(err)
	if len(d.addrs) > 1 && d.retry.Failures() == 1 {
		d.pause = 0 // another address may do
	}
	return true
}

// backOffLocked notes a failure and sets the pause before the next try.
func (d *dialed) backOffLocked(err error) {
	if d.self && len(d.addrs) == 1 {
		err = ErrSelf // however it showed
	}
	d.troubled.Store(true)
	d.failed, d.tried = err, time.Now()
	d.pause = d.retry.Next()
	if errors.Is(err, auth.ErrUntrusted) {
		d.pause = min(d.pause, maxUntrusted)
	}
	if d.told {
		return
	}
	d.told = true
	if errors.Is(err, ErrDraining) {
		d.set.cfg.Log.Info("server drains, leaving it out", slog.String("server", d.name))
		return
	}
	event := "server cannot be reached, leaving it out"
	switch {
	case errors.Is(err, auth.ErrUntrusted):
		event = "server and client do not trust each other, leaving it out"
	case errors.Is(err, ErrSelf):
		event = "server is this client, leaving it out"
	case errors.Is(err, ErrForeign):
		event = "server is not portredirector, leaving it out"
	}
	d.set.cfg.Log.Warn(event, slog.String("server", d.name), slog.Any("error", err)) //nolint:sloglint // one of four constants
}

// works ends the trouble of a server that is in use. Answers to peers that it had taken
// before it failed do not count.
func (d *dialed) works() {
	if !d.troubled.Load() || d.best.Load() == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.retry.Reset()
	d.troubled.Store(false)
	if d.told {
		d.told = false
		d.set.cfg.Log.Info("server is back", slog.String("server", d.name))
	}
}

func (d *dialed) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}
