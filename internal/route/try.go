package route

import (
	"context"
	"net/netip"
)

// Try proves the return route of a service once, from the address of a claim. It sets up the
// return route if need be. The error says why nothing could be found out.
func (m *Manager) Try(ctx context.Context, claim netip.Addr, service netip.AddrPort) (Finding, error) {
	service = unmap(service)
	if _, ok := m.ready.Load().Has(service); !ok {
		if err := m.ensure(WayTo(service.Addr()), []netip.AddrPort{service}); err != nil {
			return Finding{}, err
		}
	}
	from := &round{claims{familyOf(service.Addr()): claim.Unmap()}, make(map[failureKind]Finding)}
	return m.prove(ctx, service, from)
}

// Plain reports whether the kernel lacks a part of nftables, and the return routes go without.
func (m *Manager) Plain() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.plan.Plain
}
