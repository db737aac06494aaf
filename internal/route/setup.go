package route

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"portredirector/internal/ports"
)

// SetUp sets up and proves the return routes of services. Together, those on
// neighboring ports of a loopback address share an ip rule. A way that cannot
// be had does not touch the others. The error names every service whose return
// route cannot be had or does not hold.
func (m *Manager) SetUp(ctx context.Context, services ...ports.Endpoint) error {
	there, errs := m.ensureAll(services)
	m.proofs.expect(there)
	now := there[:min(len(there), mostProofs)]
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

// ensureAll sets up missing return routes, and returns the services that have one.
func (m *Manager) ensureAll(services []ports.Endpoint) (there []ports.Endpoint, errs []error) {
	from := newClaims()
	byWay := make(map[Way][]ports.Endpoint)
	needs := make(map[ports.Endpoint]Way)
	for _, s := range services {
		s = unmap(s)
		for _, at := range m.dialedAt(s, from) {
			way := WayTo(at.Addr())
			byWay[way] = append(byWay[way], at)
			needs[s] |= way
		}
	}
	var failed Way
	for _, way := range slices.Sorted(maps.Keys(byWay)) {
		if err := m.ensure(way, byWay[way]); err != nil {
			errs = append(errs, err)
			failed |= way
		}
	}
	for _, s := range slices.SortedFunc(maps.Keys(needs), ports.Endpoint.Compare) {
		if needs[s]&failed == 0 {
			there = append(there, s)
		}
	}
	return there, errs
}

// ensure sets up what services of one way lack.
func (m *Manager) ensure(way Way, services []ports.Endpoint) error {
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
	m.publishLocked()
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

// failure remembers a return route that could not be had, so that not every
// peer pays for another try.
type failure struct {
	err   error
	until time.Time
}

// retryAfter bounds the life of a failure.
const retryAfter = 10 * time.Second
