package route

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/socket"
)

// Config has the numbers that an administrator may choose.
type Config struct {
	Mark  uint32 // two bits; see ParseMarks
	Table int    // the first of Tables routing tables
}

// Manager owns the return routes of one server: it is the only place that
// adds and removes them. All methods may be called concurrently.
type Manager struct {
	log   *slog.Logger
	lease *lease // on the routing table

	ready  atomic.Pointer[Plan]   // what is set up; read by every dial
	ailing atomic.Pointer[string] // the last error of healing, nil if there was none

	proofs     proofs
	tracing    sync.Mutex              // held while packets of a proof are traced
	tracer     *filters                // opened when first needed; guarded by tracing
	ours       netlinkPorts            // senders of our own changes to nftables
	current    func() []netip.AddrPort // the services that are configured now; may be nil
	provedUpTo int                     // the first service of the next round of proofs, if there are many
	interfaces interfaces

	mu             sync.Mutex
	plan           Plan     // what should be in the kernel; guarded by mu
	warnedLocalnet Way      // the ways with which a warning about route_localnet was logged; guarded by mu
	routes         *routes  // guarded by mu
	filters        *filters // opened when first needed; guarded by mu
	failed         map[Way]failure
	toldBans       map[string]bool // programs whose bans were spoken of; guarded by mu
	closed         bool            // guarded by mu
}

// failure remembers a return route that could not be had, so that not every
// peer pays for another try.
type failure struct {
	err   error
	until time.Time
}

// retryAfter bounds the life of a failure.
const retryAfter = 10 * time.Second

// ErrClosed is returned after Close.
var ErrClosed = errors.New("return routes are closed")

// Open takes a routing table and sweeps what killed servers left. It sets up
// no return route yet: Mark does, as they are needed. Errors come with their
// mend.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Manager, error) {
	m := &Manager{log: log, failed: make(map[Way]failure), toldBans: make(map[string]bool), proofs: proofs{log: log}}
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
	if err := socket.CheckTransparent(); err != nil {
		return err
	}
	if m.routes, err = openRoutes(); err != nil {
		return err
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
	m.publish()
	m.lookAtInterfaces()
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

// publish lets dials know the plan. m.mu must be held.
func (m *Manager) publish() {
	p := m.plan
	m.ready.Store(&p)
}

// Ready returns the mark for a transparent dial to a service, and reports
// whether a peer can be served: its return route is set up, and nothing is known
// against it. Ready does not wait.
func (m *Manager) Ready(service netip.AddrPort) (mark uint32, ok bool) {
	service = unmap(service)
	mark, ok = m.ready.Load().Has(service)
	return mark, ok && m.proofs.refusal(service) == nil
}

// Mark is like Ready, but sets up and proves the return route if need be. The
// error says why a peer cannot be served.
func (m *Manager) Mark(ctx context.Context, service netip.AddrPort) (uint32, error) {
	if mark, ok := m.Ready(service); ok {
		return mark, nil
	}
	service = unmap(service)
	if err := m.proofs.refusal(service); err != nil {
		return 0, err
	}
	if err := m.SetUp(ctx, service); err != nil {
		return 0, err
	}
	mark, _ := m.Ready(service)
	return mark, m.proofs.refusal(service)
}

// Broken returns an error if the last proof of a service has failed.
func (m *Manager) Broken(service netip.AddrPort) error { return m.proofs.broken(unmap(service)) }

// Findings returns what the last proofs found, one for each service.
func (m *Manager) Findings() []Finding { return m.proofs.findings() }

// Hide has the peers of services refused that another program has taken the
// place of, each with its error, until Hide is called again without them.
func (m *Manager) Hide(hidden map[netip.AddrPort]error) { m.proofs.hide(hidden) }

// SetUp sets up and proves the return routes of services. Together, those on
// neighboring ports of a loopback address share an ip rule. A way that cannot
// be had does not touch the others. The error names every service whose return
// route cannot be had or does not hold.
func (m *Manager) SetUp(ctx context.Context, services ...netip.AddrPort) error {
	byWay := make(map[Way][]netip.AddrPort)
	for _, s := range services {
		way := WayTo(s.Addr())
		byWay[way] = append(byWay[way], unmap(s))
	}
	var errs []error
	var there []netip.AddrPort
	for _, way := range slices.Sorted(maps.Keys(byWay)) {
		if err := m.ensure(way, byWay[way]); err != nil {
			errs = append(errs, err)
			continue
		}
		there = append(there, byWay[way]...)
	}
	now := there[:min(len(there), mostProofs)]
	m.proofs.note(unproved(there[len(now):]))
	for _, f := range m.proveAll(ctx, now) {
		if err := f.Err(); err != nil {
			errs = append(errs, err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.logBanToolsLocked()
	return errors.Join(errs...)
}

// ensure sets up what is missing for services that all go by one way.
func (m *Manager) ensure(way Way, services []netip.AddrPort) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	before := m.plan
	m.lookAtLocalnetsLocked()
	want, more := m.plan, false
	for _, s := range services {
		_, has := want.Has(s)
		want, more = want.With(s), more || !has
	}
	if !more {
		return nil // another dial was faster
	}
	if f, ok := m.failed[way]; ok && time.Now().Before(f.until) {
		return f.err
	}
	err := m.extendLocked(way, want)
	if err != nil {
		err = fmt.Errorf("return route (%s): %w", way, mend(err))
		m.failed[way] = failure{err: err, until: time.Now().Add(retryAfter)}
		m.plan = before
		if _, rerr := m.applyLocked(); rerr != nil {
			m.log.Warn("what is left of a return route that cannot be had stays until the next try", slog.Any("error", rerr))
		}
		return err
	}
	delete(m.failed, way)
	m.publish()
	m.log.Debug("in the kernel is now what these commands would set up", slog.Any("plan", m.plan))
	return nil
}

// extendLocked puts a larger plan into the kernel.
func (m *Manager) extendLocked(way Way, want Plan) error {
	if want.tracked != 0 {
		if err := checkMarks(want.Marks); err != nil {
			return err
		}
	}
	m.plan = want
	if _, err := m.applyLocked(); err != nil {
		return err
	}
	if on, _ := localnets(); way == LoopbackV4 && len(on) > 0 && m.warnedLocalnet&way == 0 {
		m.warnedLocalnet |= way
		m.log.Warn("route_localnet is on: visitors whom a NAT rule of this machine sends to the same port of 127.0.0.1 get no replies meanwhile; "+
			"if there are such, have the service dialed at another address", slog.String("interfaces", strings.Join(on, ", ")))
	}
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
	err := m.remove()
	m.release()
	return err
}

// remove removes everything, and sweeps: others may have been killed since, and
// nobody else may come.
func (m *Manager) remove() error {
	m.plan = Plan{Marks: m.plan.Marks, Table: m.plan.Table}
	m.publish()
	if _, err := m.applyLocked(); err != nil {
		return err
	}
	setup, err := setupLease(context.Background())
	if err != nil {
		return err
	}
	defer setup.release()
	return m.sweep()
}

// release gives back what the process holds.
func (m *Manager) release() {
	if m.filters != nil {
		m.filters.close()
	}
	if m.tracer != nil {
		m.tracer.close()
	}
	if m.routes != nil {
		m.routes.close()
	}
	if m.lease != nil {
		m.lease.release()
	}
}
