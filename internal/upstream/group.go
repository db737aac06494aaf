package upstream

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"time"
)

const (
	// resolveEvery is the interval at which names are resolved. Package net does not tell the time to
	// live of what it finds.
	resolveEvery = 30 * time.Second
	// resolveAgain is the pause for a name that has no address, or of which none works.
	resolveAgain = 2 * time.Second
	// lookupTimeout bounds all lookups of a group.
	lookupTimeout = 10 * time.Second
)

// group is the servers that one name stands for.
type group struct {
	set     *Servers
	name    string
	again   chan struct{} // asks its task to resolve the name soon
	dialed  []*dialed     // only the task of the group uses it
	servers []*server     // the same; guarded by Servers.mu
	told    bool          // the log has it that the name cannot be resolved
}

func newGroup(ss *Servers, name string) *group {
	g := &group{set: ss, name: name, again: make(chan struct{}, 1)}
	if at, ok := g.literal(); ok {
		g.use([]*dialed{newDialed(g, endpoint{name: name, host: at.Addr().String(), addrs: []netip.AddrPort{at}, weight: 1})})
	}
	return g
}

// literal returns the address of a group that is no name.
func (g *group) literal() (netip.AddrPort, bool) {
	a, err := netip.ParseAddrPort(g.name)
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), err == nil
}

// start starts the task of the group, or that of its one server if it is no name.
func (g *group) start(ctx context.Context) {
	if _, ok := g.literal(); ok {
		g.dialed[0].start(ctx)
		return
	}
	g.set.tasks.Go(func() { g.run(ctx) })
}

// run resolves the name again and again, until ctx is canceled.
func (g *group) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := g.update(ctx)
		pause := resolveEvery
		if err != nil {
			pause = resolveAgain
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
		case <-g.again:
			timer.Reset(resolveAgain)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		}
		timer.Stop()
	}
}

// update resolves the name once.
func (g *group) update(ctx context.Context) error {
	lctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	endpoints, err := g.lookUp(lctx)
	log := g.set.cfg.Log.With(slog.String("server", g.name))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && !g.told:
		g.told = true
		log.Warn("server cannot be resolved, trying again", slog.Any("error", err))
	case err == nil && g.told:
		g.told = false
		log.Info("server is resolved again")
	}
	if err == nil {
		g.apply(ctx, endpoints)
	}
	return err
}

// resolveSoon asks for an update out of turn.
func (g *group) resolveSoon() {
	select {
	case g.again <- struct{}{}:
	default:
	}
}

// apply starts the servers that are new, and stops those that the name no longer has.
func (g *group) apply(ctx context.Context, endpoints []endpoint) {
	var now []*dialed
	for _, e := range endpoints {
		i := slices.IndexFunc(g.dialed, func(d *dialed) bool { return d.name == e.name })
		if i >= 0 {
			g.dialed[i].setEndpoint(e)
			now = append(now, g.dialed[i])
			continue
		}
		d := newDialed(g, e)
		d.start(ctx)
		now = append(now, d)
	}
	for _, d := range g.dialed {
		if !slices.Contains(now, d) {
			d.stop()
		}
	}
	if g.set.cfg.Balance == Failover {
		// Package net shuffles records of one priority. Known servers keep their order.
		slices.SortStableFunc(now, func(a, b *dialed) int {
			return cmp.Or(cmp.Compare(a.priority, b.priority), g.place(a)-g.place(b))
		})
	}
	g.use(now)
	g.set.publish()
	g.set.announce()
}

// use sets the servers of the group.
func (g *group) use(now []*dialed) {
	g.dialed = now
	g.set.mu.Lock()
	defer g.set.mu.Unlock()
	g.servers = nil
	for _, d := range now {
		g.servers = append(g.servers, d.server)
	}
}

// place returns the index of a server in the group, and the end for a new one.
func (g *group) place(d *dialed) int {
	if i := slices.Index(g.dialed, d); i >= 0 {
		return i
	}
	return len(g.dialed)
}
