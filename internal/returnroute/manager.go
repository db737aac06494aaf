package returnroute

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/transparent"
)

// Config is what an administrator may choose.
type Config struct {
	Mark  uint32 // two bits; see ParseMarks
	Table int    // the first of Tables routing tables
}

// Manager owns the return routes of one server: it is the only place that
// adds and removes them. All methods may be called concurrently.
type Manager struct {
	log   *slog.Logger
	lease *lease // on the routing table

	ready atomic.Uint32 // Way: set up and proved; read by every dial

	mu      sync.Mutex
	plan    Plan     // what should be in the kernel; guarded by mu
	routes  *routes  // guarded by mu
	filters *filters // opened when first needed; guarded by mu
	marked  []int    // the sysctls that are ours to turn off; guarded by mu
	failed  map[Way]failure
	ailing  string // the last error of healing; guarded by mu
	closed  bool   // guarded by mu
}

// failure remembers a return route that could not be had, so that not every
// peer pays for another try.
type failure struct {
	err   error
	until time.Time
}

// retryAfter is how long a failure stands.
const retryAfter = 10 * time.Second

// ErrClosed is what Mark returns after Close.
var ErrClosed = errors.New("return routes are closed")

// Open takes a routing table and sweeps what killed servers left. It sets up
// no return route yet: Mark does, as they are needed. Errors come with their
// mend.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Manager, error) {
	m := &Manager{log: log, failed: make(map[Way]failure)}
	err := m.open(ctx, cfg)
	if err != nil {
		m.release()
		return nil, mend(err)
	}
	return m, nil
}

func (m *Manager) open(ctx context.Context, cfg Config) error {
	marks, err := ParseMarks(cfg.Mark)
	if err != nil {
		return err
	}
	if err := transparent.Permitted(); err != nil {
		return err
	}
	if m.routes, err = openRoutes(); err != nil {
		return err
	}
	for _, f := range []family{ipv4, ipv6} {
		if err := checkMarks(f, marks); err != nil {
			return err
		}
	}
	setup, err := setupLease(ctx)
	if err != nil {
		return err
	}
	defer setup.release()
	table, err := m.takeTable(cfg.Table)
	if err != nil {
		return err
	}
	m.plan = Plan{Marks: marks, Table: table}
	if err := m.sweep(); err != nil {
		return fmt.Errorf("sweep what a killed server left: %w", err)
	}
	return nil
}

// takeTable takes the lease on the first free table from first on.
func (m *Manager) takeTable(first int) (int, error) {
	for t := first; t < first+Tables; t++ {
		if t >= unix.RT_TABLE_COMPAT && t <= unix.RT_TABLE_LOCAL {
			continue
		}
		lease, err := tableLease(t)
		if errors.Is(err, errHeld) {
			continue
		}
		if err != nil {
			return 0, err
		}
		taken4, err4 := m.routes.foreign(ipv4, t)
		taken6, err6 := m.routes.foreign(ipv6, t)
		if err := errors.Join(err4, err6); err != nil || taken4 || taken6 {
			lease.release()
			if err != nil {
				return 0, err
			}
			continue
		}
		m.lease = lease
		return t, nil
	}
	return 0, fmt.Errorf("routing tables %d to %d are all in use: choose others with --table", first, first+Tables-1)
}

// Ready returns the mark for a transparent dial to a service at addr, if its
// return route is there: one atomic load.
func (m *Manager) Ready(addr netip.Addr) (mark uint32, ok bool) {
	way := WayTo(addr)
	return m.plan.Marks.Mark(way), Way(m.ready.Load())&way != 0
}

// Mark is Ready, and has the return route set up and proved first where it is
// not, which takes a while.
func (m *Manager) Mark(ctx context.Context, addr netip.Addr) (uint32, error) {
	way := WayTo(addr)
	if Way(m.ready.Load())&way == 0 {
		if err := m.ensure(ctx, way, addr); err != nil {
			return 0, err
		}
	}
	return m.plan.Marks.Mark(way), nil
}

// ensure sets up and proves a way that is not ready. Those that are stay
// untouched, whatever becomes of it.
func (m *Manager) ensure(ctx context.Context, way Way, addr netip.Addr) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	ready := Way(m.ready.Load())
	switch {
	case m.closed:
		return ErrClosed
	case ready&way != 0:
		return nil // another dial was faster
	}
	if f, ok := m.failed[way]; ok && time.Now().Before(f.until) {
		return f.err
	}
	err := m.extend(ctx, way)
	if err == nil {
		err = prove(ctx, way, m.plan.Marks.Mark(way), addr)
	}
	if err != nil {
		err = fmt.Errorf("return route (%s): %w", way, mend(err))
		m.failed[way] = failure{err: err, until: time.Now().Add(retryAfter)}
		if rerr := m.retract(way); rerr != nil {
			m.log.Warn("what is left of a return route that cannot be had stays until the next try", slog.Any("error", rerr))
		}
		return err
	}
	delete(m.failed, way)
	m.ready.Store(uint32(ready | way))
	m.log.Info("return route is set up and proved", slog.String("way", way.String()),
		slog.Int("table", m.plan.Table), slog.String("mark", fmt.Sprintf("%#x", m.plan.Marks.Mark(way))))
	m.log.Debug("in the kernel is now what these commands would set up", slog.Any("plan", m.plan))
	return nil
}

// Close removes everything. It must be called after the last connection
// ended: without its return route a connection stalls.
func (m *Manager) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	m.ready.Store(0)
	err := m.retract(m.plan.Ways)
	m.release()
	return err
}

// release gives back what the process holds.
func (m *Manager) release() {
	if m.filters != nil {
		m.filters.close()
	}
	if m.routes != nil {
		m.routes.close()
	}
	if m.lease != nil {
		m.lease.release()
	}
}
