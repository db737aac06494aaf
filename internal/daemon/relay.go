package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"time"

	"portredirector/internal/relay"
)

// openRelay starts a relay with a loop for each processor, and pushes its closer. A busy loop keeps
// its processor, so the scheduler gets one more for everything else.
func (c *closers) openRelay(o relay.Options, log *slog.Logger) (*relay.Engine, error) {
	o.Log = log
	o.Loops = runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(o.Loops + 1)
	c.push(func() { runtime.GOMAXPROCS(o.Loops) })
	engine, err := relay.New(o)
	if err != nil {
		return nil, err
	}
	c.pushErr(func() error { return engine.Shutdown(context.Background()) }) // after a drain nothing is left
	return engine, nil
}

// relaying is the task that accepts connections and relays them. Canceled, it drains: it accepts no
// more, waits for the live peers, and cuts them when the time is over or cut is canceled.
type relaying struct {
	engine       *relay.Engine
	listeners    []*net.TCPListener
	handle       func(fd int, from netip.AddrPort)
	cut          context.Context //nolint:containedctx // ends a drain, which begins when Run's ends
	drainTimeout time.Duration
	log          *slog.Logger

	ready chan struct{}
}

// Run accepts connections until ctx is canceled, and drains.
func (r *relaying) Run(ctx context.Context) error {
	defer r.drain()
	for _, l := range r.listeners {
		if err := r.engine.Accept(l, r.handle); err != nil {
			return fmt.Errorf("accept on %s: %w", l.Addr(), err)
		}
	}
	close(r.ready)
	<-ctx.Done()
	return nil
}

// Ready returns a channel that is closed when all listeners are accepted from.
func (r *relaying) Ready() <-chan struct{} { return r.ready }

func (r *relaying) String() string {
	if len(r.listeners) == 0 {
		return "relay"
	}
	addrs := make([]string, len(r.listeners))
	for i, l := range r.listeners {
		addrs[i] = l.Addr().String()
	}
	return "relay of " + brief(addrs)
}

func (r *relaying) drain() {
	ctx, cancel := context.WithTimeoutCause(r.cut, r.drainTimeout, errDrainOver)
	defer cancel()
	r.log.Info("draining, a second signal cuts", slog.Int("peers", r.engine.Len()), slog.Duration("at_most", r.drainTimeout))
	if err := r.engine.Shutdown(ctx); err != nil {
		r.log.Warn("peers were cut", slog.Any("why", err))
	}
}
