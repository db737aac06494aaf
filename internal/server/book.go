package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"portredirector/internal/ports"
)

// Errors of finding a service's address.
var (
	ErrNoService = errors.New("no service on this port")
	// ErrFamily refuses a peer that cannot be the source of a dial to the service: the
	// kernel does not connect IPv6 to IPv4.
	ErrFamily = errors.New("the service has no address of the peer's family")
	// errAway refuses a peer whose container is not running.
	errAway = errors.New("the service is away")
	// errNoRoute refuses a peer to whom the service's replies would not come back.
	errNoRoute = errors.New("the service cannot be dialed with the peer's address")
)

// Containers looks up the addresses of containers. A *docker.Engine does.
type Containers interface {
	// Address returns a container's address in the family of claim, or the zero Addr if
	// it has none. It does not block.
	Address(container string, claim netip.Addr) (netip.Addr, error)
}

// Book finds the addresses of services.
type Book struct {
	Names      *Names     // may be nil if no service has a name
	Containers Containers // may be nil if no service is a container
	// Instead returns the address to dial in place of a service's. May be nil.
	Instead func(service ports.Endpoint) netip.AddrPort
}

// target returns the address to dial for an address of s.
func (b Book) target(p ports.Protocol, s Service, addr netip.Addr) netip.AddrPort {
	at := netip.AddrPortFrom(addr, s.Port)
	if b.Instead == nil {
		return at
	}
	return b.Instead(p.At(at))
}

// now returns the addresses of s in the family of claim without waiting. It reports
// false if they must be looked up.
func (b Book) now(s Service, claim netip.Addr) (addrs []netip.Addr, ok bool, err error) {
	if s.named() {
		return b.Names.cached(s.question(claim))
	}
	addr, err := b.fixed(s, claim)
	if err != nil {
		return nil, true, err
	}
	return []netip.Addr{addr}, true, nil
}

// addresses returns the addresses of s in the family of claim. It may block for a name.
func (b Book) addresses(ctx context.Context, s Service, claim netip.Addr) ([]netip.Addr, error) {
	if s.named() {
		return b.Names.lookup(ctx, s.question(claim))
	}
	addrs, _, err := b.now(s, claim)
	return addrs, err
}

// fixed returns the address of a service that has no name.
func (b Book) fixed(s Service, claim netip.Addr) (netip.Addr, error) {
	switch {
	case s.Host == "" && claim.Is4():
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
	case s.Host == "":
		return netip.IPv6Loopback(), nil
	}
	if name, isContainer := s.Container(); isContainer {
		addr, err := b.Containers.Address(name, claim)
		switch {
		case err != nil:
			return netip.Addr{}, fmt.Errorf("%w: %w", errAway, err)
		case !addr.IsValid():
			return netip.Addr{}, ErrFamily
		}
		return addr, nil
	}
	addr, err := netip.ParseAddr(s.Host)
	if err != nil {
		return netip.Addr{}, err
	}
	if addr = addr.Unmap(); addr.Is4() != claim.Is4() {
		return netip.Addr{}, ErrFamily
	}
	return addr, nil
}

// Known returns the addresses of s of both families that need no lookup now.
func (b Book) Known(s Service) []netip.Addr {
	var all []netip.Addr
	for _, family := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if addrs, ok, err := b.now(s, family); ok && err == nil {
			all = append(all, addrs...)
		}
	}
	return all
}

// Addresses returns every address of s that a claim could be dialed to, of both
// families, so that return routes can be set up ahead of need. It fails if there is none
// now; a name or a container may have some later.
func (b Book) Addresses(ctx context.Context, s Service) ([]netip.Addr, error) {
	var all []netip.Addr
	var failed error
	for _, family := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		addrs, err := b.addresses(ctx, s, family)
		all = append(all, addrs...)
		if err != nil && !errors.Is(err, ErrFamily) {
			failed = err
		}
	}
	switch {
	case len(all) > 0:
		return all, nil
	case failed == nil:
		failed = fmt.Errorf("%s has no address", s.Host)
	}
	return nil, failed
}

// resolve looks up a name. A name that has only addresses of the other family, or none,
// is ErrFamily.
func resolve(ctx context.Context, r Resolver, q question) ([]netip.Addr, error) {
	addrs, err := r.LookupNetIP(ctx, q.network, q.host)
	dns, isDNS := errors.AsType[*net.DNSError](err)
	_, otherFamily := errors.AsType[*net.AddrError](err) // of package net
	switch {
	case otherFamily, isDNS && dns.IsNotFound:
		return nil, fmt.Errorf("%w: %w", ErrFamily, err)
	case err != nil:
		return nil, fmt.Errorf("resolve service: %w", err)
	}
	var list []netip.Addr
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() == (q.network == "ip4") {
			list = append(list, a)
		}
	}
	if len(list) == 0 {
		return nil, ErrFamily
	}
	return list, nil
}
