package route

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/ports"
	"portredirector/internal/socket"
)

// Config has the numbers that an administrator may choose.
type Config struct {
	Mark  uint32 // two bits; see ParseMarks
	Table int    // the first of Tables routing tables
	// UDPTimeout is the longest silence after which a UDP flow ends; 0 is DefaultUDPTimeout.
	UDPTimeout time.Duration
}

// DefaultUDPTimeout is the silence after which a UDP flow ends, if nothing else is configured.
const DefaultUDPTimeout = 3 * time.Minute

// flowTimeout returns the lifetime of a conntrack entry, which must outlive the flow's
// socket.
func (c Config) flowTimeout() time.Duration {
	return (cmp.Or(c.UDPTimeout, DefaultUDPTimeout) + 10*time.Second).Truncate(time.Second)
}

// Manager owns the return routes of one server. Nothing else adds or removes
// them. All methods may be called concurrently.
type Manager struct {
	log   *slog.Logger
	lease *lease // on the routing table

	ready     atomic.Pointer[Plan]   // the plan that is set up; read by every dial
	healError atomic.Pointer[string] // of the last healing, nil if there was none

	proofs     proofs
	bindings   bindings
	changes    atomic.Uint64 // counts changes of routes and rules by others
	tracing    sync.Mutex    // held while packets of a proof are traced
	tracer     *filters      // opened when first needed; guarded by tracing
	standIns   standIns
	ours       netlinkPorts            // senders of our own changes to nftables
	current    func() []ports.Endpoint // the services that are configured now; may be nil
	provedUpTo int                     // the first service of the next round of proofs, if there are many
	interfaces interfaces

	mu             sync.Mutex
	plan           Plan     // for the kernel; guarded by mu
	warnedLocalnet Way      // the ways with which a warning about route_localnet was logged; guarded by mu
	routes         *routes  // guarded by mu
	filters        *filters // opened when first needed; guarded by mu
	failed         map[Way]failure
	toldBans       map[string]bool // programs whose bans were spoken of; guarded by mu
	closed         bool            // guarded by mu
}

// Errors of a Manager.
var (
	ErrClosed   = errors.New("return routes are closed")
	ErrNoTable  = errors.New("are all in use: choose others")
	ErrMarkUsed = errors.New("choose two free bits")
)

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
	m.plan = Plan{Marks: marks, Table: table, FlowTimeout: cfg.flowTimeout()}
	m.publishLocked()
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
	return 0, fmt.Errorf("routing tables %d to %d %w", first, first+Tables-1, ErrNoTable)
}

// publishLocked lets dials know the plan.
func (m *Manager) publishLocked() {
	p := m.plan
	m.ready.Store(&p)
}

// Ready returns the mark for a transparent dial to a service, and reports
// whether a peer can be served: its return route is set up, and nothing is known
// against it. Ready does not wait.
func (m *Manager) Ready(service ports.Endpoint) (mark uint32, ok bool) {
	service = unmap(service)
	mark, ok = m.ready.Load().Has(service)
	return mark, ok && m.proofs.refusal(service) == nil
}

// Mark is like Ready, but sets up and proves the return route if need be. The
// error says why a peer cannot be served.
func (m *Manager) Mark(ctx context.Context, service ports.Endpoint) (uint32, error) {
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
func (m *Manager) Broken(service ports.Endpoint) error { return m.proofs.broken(unmap(service)) }

// Findings returns what the last proofs found, one for each service.
func (m *Manager) Findings() []Finding { return m.proofs.findings() }

// Hide has the peers of services refused that another program has taken the
// place of, each with its error, until Hide is called again without them.
func (m *Manager) Hide(hidden map[ports.Endpoint]error) { m.proofs.hide(hidden) }

// Close removes everything. It must be called after the last connection
// ended: without its return route a connection stalls.
func (m *Manager) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	err := m.removeLocked()
	m.release()
	return err
}

// removeLocked removes everything, and sweeps: other servers may have been killed
// since, and no later one may come.
func (m *Manager) removeLocked() error {
	m.plan = Plan{Marks: m.plan.Marks, Table: m.plan.Table}
	m.publishLocked()
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

// release closes the sockets and the lease of the process.
func (m *Manager) release() {
	if m.filters != nil {
		m.filters.close()
	}
	if m.tracer != nil {
		m.tracer.close()
	}
	m.standIns.close()
	m.bindings.close()
	if m.routes != nil {
		m.routes.close()
	}
	if m.lease != nil {
		m.lease.release()
	}
}
