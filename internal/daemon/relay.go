package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
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
// more, waits for the live peers, and cuts them when the time is over or at the last stage.
type relaying struct {
	engine       *relay.Engine
	listeners    []*net.TCPListener
	handle       func(fd int, from netip.AddrPort)
	shutdown     Shutdown
	datagrams    []*net.UDPConn
	flows        flows  // of the datagrams; nil without UDP ports
	retire       func() // is called once nothing more is accepted; nil does nothing
	drainTimeout time.Duration
	log          *slog.Logger

	over  bool // the last peer of a retired worker has ended
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
	for _, c := range r.datagrams {
		at := c.LocalAddr()
		if err := r.flows.Listen(c); err != nil {
			return fmt.Errorf("receive on %s/udp: %w", at, err)
		}
	}
	close(r.ready)
	select {
	case <-r.shutdown.Retire.Done():
		r.retireUntil(ctx)
	case <-ctx.Done():
	}
	<-ctx.Done()
	return nil
}

// retireUntil accepts no more, and drains when the last peer has ended.
func (r *relaying) retireUntil(ctx context.Context) {
	if r.shutdown.Drain.Err() != nil {
		return
	}
	r.log.Info("retiring, another worker serves new peers", slog.Int("peers", r.len()))
	r.engine.Retire()
	if r.flows != nil {
		r.flows.Retire()
	}
	if r.retire != nil {
		r.retire()
	}
	if r.engine.Wait(ctx) && (r.flows == nil || r.flows.Wait(ctx)) {
		r.over = true
		r.shutdown.BeginDrain()
	}
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
	ctx, cancel := context.WithTimeoutCause(r.shutdown.Cut, r.drainTimeout, errDrainOver)
	defer cancel()
	var ending sync.WaitGroup
	defer ending.Wait()
	if r.flows != nil {
		ending.Go(func() { r.flows.Shutdown(ctx) })
	}
	if r.over {
		_ = r.engine.Shutdown(ctx) // nothing is live
		return
	}
	r.log.Info("draining, a second signal cuts", slog.Int("peers", r.len()), slog.Duration("at_most", r.drainTimeout))
	if err := r.engine.Shutdown(ctx); err != nil {
		r.log.Warn("peers were cut", slog.Any("why", err))
	}
}

// len returns the number of peers.
func (r *relaying) len() int {
	n := r.engine.Len()
	if r.flows != nil {
		n += r.flows.Len()
	}
	return n
}
