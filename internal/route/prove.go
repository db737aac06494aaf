package route

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"

	"portredirector/internal/probe"
)

// claims returns the sources of proofs of a family: documentation addresses,
// which nobody has (RFC 5737, RFC 3849, RFC 9637).
func claims(f family) []netip.Addr {
	if f == ipv4 {
		return []netip.Addr{
			netip.MustParseAddr("198.51.100.77"), netip.MustParseAddr("203.0.113.77"), netip.MustParseAddr("192.0.2.77"),
		}
	}
	return []netip.Addr{netip.MustParseAddr("2001:db8::77"), netip.MustParseAddr("3fff::77")}
}

// claimFor returns the source of a proof of a service: the first that lies in
// no network of this machine.
func claimFor(service netip.Addr) netip.AddrPort {
	f := ipv6
	if service.Is4() {
		f = ipv4
	}
	all := claims(f)
	claim := all[0]
	for _, a := range all {
		if !inOwnNetwork(a) {
			claim = a
			break
		}
	}
	const low, high = 1024, 32768                                     // below the ports that the kernel gives out
	return netip.AddrPortFrom(claim, uint16(low+rand.IntN(high-low))) //nolint:gosec // no secret; fits
}

// inOwnNetwork reports whether an address lies in the network of an interface.
func inOwnNetwork(a netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, one := range addrs {
		if p, err := netip.ParsePrefix(one.String()); err == nil && p.Contains(a) {
			return true
		}
	}
	return false
}

// prove finds out whether the return route of a service holds. The service does
// not notice. The error says why that could not be found out.
func (m *Manager) prove(ctx context.Context, service netip.AddrPort) (Finding, error) {
	mark, _ := m.ready.Load().Has(service)
	send := func(claim netip.AddrPort) (probe.Result, error) {
		return probe.Send(ctx, probe.Path{From: claim, To: service, Mark: mark})
	}
	f := Finding{Service: service, Claim: claimFor(service.Addr())}
	r, err := send(f.Claim)
	if err != nil {
		return f, err
	}
	f.Outcome, f.Seen = m.judge(r)
	switch {
	case f.Outcome == NoAnswer && m.proofs.answered(service):
		// A rule may drop replies before connection tracking sees them.
		if !m.tracing.TryLock() {
			return f, nil
		}
	case f.Err() != nil:
		m.tracing.Lock()
	default:
		return f, nil
	}
	defer m.tracing.Unlock()
	f.Claim = claimFor(service.Addr()) // another port, and so another entry of conntrack
	return m.diagnoseLocked(f, func() (probe.Result, error) { return send(f.Claim) }), ctx.Err()
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
