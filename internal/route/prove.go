package route

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"

	"portredirector/internal/ports"
	"portredirector/internal/probe"
)

// claims has the source address of proofs for each family.
type claims map[family]netip.Addr

// newClaims chooses documentation addresses, which nobody has (RFC 5737, RFC 3849,
// RFC 9637): the first of each family that lies in no network of this machine.
func newClaims() claims {
	own, _ := net.InterfaceAddrs() // an error leaves the first
	inOwnNetwork := func(a netip.Addr) bool {
		return slices.ContainsFunc(own, func(n net.Addr) bool {
			p, err := netip.ParsePrefix(n.String())
			return err == nil && p.Contains(a)
		})
	}
	chosen := make(claims)
	for f, list := range map[family][]string{
		ipv4: {"198.51.100.77", "203.0.113.77", "192.0.2.77"},
		ipv6: {"2001:db8::77", "3fff::77"},
	} {
		free := slices.IndexFunc(list, func(text string) bool { return !inOwnNetwork(netip.MustParseAddr(text)) })
		chosen[f] = netip.MustParseAddr(list[max(free, 0)])
	}
	return chosen
}

// with returns a source for a proof of a service, with another port each time, and so
// another entry of conntrack.
func (c claims) with(service netip.Addr) netip.AddrPort {
	const low, high = 1024, 32768             // below the ports that the kernel gives out
	port := uint16(low + rand.IntN(high-low)) //nolint:gosec // no secret
	return netip.AddrPortFrom(c[familyOf(service)], port)
}

// familyOf returns the family of an address.
func familyOf(a netip.Addr) family {
	if a.Is4() {
		return ipv4
	}
	return ipv6
}

// round holds the claims and the diagnoses of one round of proofs.
type round struct {
	claims
	// diagnosed has one finding of each kind of failure. A diagnosis takes a second,
	// and what breaks one service mostly breaks others alike. Guarded by Manager.tracing.
	diagnosed map[failureKind]Finding
}

// failureKind groups the failures of one round that have one diagnosis.
type failureKind struct {
	protocol ports.Protocol
	family   family
	outcome  Outcome
}

// prove finds out whether the return route of a service holds. The service does
// not notice, unless it is one by UDP on another machine or in a container. The error
// says why that could not be found out.
func (m *Manager) prove(ctx context.Context, service ports.Endpoint, from *round) (Finding, error) {
	f := Finding{Service: service, Dialed: service.AddrPort, Claim: from.with(service.Addr())}
	if service.Protocol == ports.UDP {
		f.Dialed = m.bindings.dialed(service.AddrPort, f.Claim.Addr())
	}
	f.changes = m.changes.Load()
	if kept, ok := m.keptSilent(f); ok {
		return kept, nil
	}
	mark, err := m.markFor(service.Protocol.At(f.Dialed))
	if err != nil {
		return f, err
	}
	send := func(claim netip.AddrPort) (sent, error) {
		r, err := probe.Send(ctx, probe.Path{Protocol: service.Protocol, From: claim, To: f.Dialed, Mark: mark})
		return m.observe(r), err
	}
	r, err := send(f.Claim)
	if err != nil {
		return f, err
	}
	f.sent = r
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
	if ctx.Err() != nil {
		return f, ctx.Err()
	}
	kind := failureKind{service.Protocol, familyOf(service.Addr()), f.Outcome}
	if d, ok := from.diagnosed[kind]; ok {
		f.Culprit, f.Mend, f.Command = d.Culprit, d.Mend, d.Command
		return f, nil
	}
	f.Claim = from.with(service.Addr())
	f = m.diagnoseLocked(f, func() (sent, error) { return send(f.Claim) })
	if f.Err() != nil && f.Outcome == kind.outcome {
		from.diagnosed[kind] = f
	}
	return f, ctx.Err()
}

// markFor returns the mark of a dial, and sets up a missing return route: a restarted
// service may be dialed at another address.
func (m *Manager) markFor(at ports.Endpoint) (uint32, error) {
	mark, ok := m.ready.Load().Has(at)
	if ok {
		return mark, nil
	}
	return mark, m.ensure(WayTo(at.Addr()), []ports.Endpoint{at})
}

// observe adds the observations of a service's stand-in to a probe.
func (m *Manager) observe(r probe.Result) sent {
	s := sent{Result: r}
	if in := m.standIns.find(r.To); in != nil && r.Protocol == ports.UDP {
		s.standIn, s.delivered, s.wildcard = true, in.wasAsked(r.From), in.service.anyAddress
	}
	return s
}

// keptSilent looks up the routes of a UDP service that kept silent, to spare it another
// datagram. It returns false if a proof is needed, because something has changed since the
// last one or the way does not hold.
func (m *Manager) keptSilent(f Finding) (Finding, bool) {
	last, ok := m.proofs.last(f.Service)
	if !ok || last.Outcome != LookedUp || last.changes != f.changes || last.Dialed != f.Dialed {
		return f, false
	}
	now, _ := m.judge(last.sent)
	return last, now == LookedUp
}

func unmap(e ports.Endpoint) ports.Endpoint { return e.Protocol.At(e.AddrPort) }
