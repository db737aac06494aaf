package route

import (
	"context"
	"net/netip"

	"portredirector/internal/ports"
)

// Try proves the return route of a service once, from the address of a claim. It sets up the
// return route if need be. It returns an error if the proof could not run.
func (m *Manager) Try(ctx context.Context, claim netip.Addr, service ports.Endpoint) (Finding, error) {
	service = unmap(service)
	if err := m.ensure(WayTo(service.Addr()), []ports.Endpoint{service}); err != nil {
		return Finding{}, err
	}
	from := &round{claims: claims{familyOf(service.Addr()): claim.Unmap()}, diagnosed: make(map[failureKind]Finding)}
	if service.Protocol == ports.UDP {
		m.placeStandIns(append(m.proofs.services(), service), from.claims)
	}
	return m.prove(ctx, service, from)
}

// Plain reports whether return routes work without a part of nftables that the kernel lacks.
func (m *Manager) Plain() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.plan.Plain
}
