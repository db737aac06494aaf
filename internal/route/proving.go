package route

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"portredirector/internal/ports"
)

const (
	// proveEvery is the interval between proofs of all return routes.
	proveEvery = 10 * time.Second
	// proveSettles is the time between a change and the proof that follows it.
	proveSettles = 100 * time.Millisecond
	// proveRests bounds how often changes cause proofs.
	proveRests = time.Second
	// atOnce bounds the proofs that wait for replies at the same time.
	atOnce = 32
	// mostProofs bounds the services of SetUp and of one round. The others follow in
	// the next rounds.
	mostProofs = 256
)

// repeat calls round regularly, and soon after each change, until ctx is
// canceled.
func repeat(ctx context.Context, changed <-chan struct{}, round func(context.Context)) {
	regular := time.NewTicker(proveEvery)
	defer regular.Stop()
	for {
		rest := time.Duration(0)
		select {
		case <-ctx.Done():
			return
		case <-regular.C:
		case <-changed:
			rest = proveRests
			sleep(ctx, proveSettles)
		}
		select { // what else has changed by now is part of this round
		case <-changed:
		default:
		}
		if ctx.Err() != nil {
			return
		}
		round(ctx)
		sleep(ctx, rest)
	}
}

// sleep waits for d, or until ctx is canceled.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// Follow names the services that are configured now, whenever current is called.
// It must be called before Run.
func (m *Manager) Follow(current func() []ports.Endpoint) { m.current = current }

// proveAgain proves the return routes of all services, and of those that the
// configuration has named since.
func (m *Manager) proveAgain(ctx context.Context) {
	m.lookAtInterfaces()
	if m.current != nil {
		current := m.current()
		var later []ports.Endpoint
		for i, s := range current {
			current[i] = unmap(s)
			if !m.proofs.has(current[i]) {
				later = append(later, current[i])
			}
		}
		m.proofs.keep(current)
		if err := m.SetUp(ctx, later...); err != nil && ctx.Err() == nil {
			m.log.Warn("return route of a service cannot be had", slog.Any("error", err))
		}
	}
	m.proveAll(ctx, m.nextServices())
}

// nextServices returns the services of a round. If there are many, those come first
// whose peers are refused, and then another part of the rest in each round.
func (m *Manager) nextServices() []ports.Endpoint {
	all := m.proofs.services()
	if len(all) <= mostProofs {
		return all
	}
	first := m.provedUpTo % len(all)
	all = append(all[first:], all[:first]...)
	slices.SortStableFunc(all, func(a, b ports.Endpoint) int {
		switch x, y := m.proofs.refusal(a) != nil, m.proofs.refusal(b) != nil; {
		case x == y:
			return 0
		case x:
			return -1
		}
		return 1
	})
	m.provedUpTo = first + mostProofs
	return all[:mostProofs]
}

// proveAll proves the return routes of services, and notes what is found.
func (m *Manager) proveAll(ctx context.Context, services []ports.Endpoint) []Finding {
	if len(services) == 0 {
		return nil
	}
	from := &round{claims: newClaims(), diagnosed: make(map[failureKind]Finding)}
	m.placeStandIns(append(m.proofs.services(), services...), from.claims)
	var mu sync.Mutex
	var findings []Finding
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, service := range services {
		g.Go(func() error {
			f, err := m.prove(ctx, service, from)
			if err != nil {
				m.log.Debug("return route could not be proved", slog.String("service", service.String()), slog.Any("error", err))
				return nil
			}
			if f.Err() != nil { // its peers hang until it is noted
				m.proofs.note([]Finding{f})
			}
			mu.Lock()
			defer mu.Unlock()
			findings = append(findings, f)
			return nil
		})
	}
	_ = g.Wait() // it has no error
	m.proofs.note(findings)
	return findings
}
