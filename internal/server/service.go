package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Service is where a claim is dialled to.
type Service struct {
	Host string // an IP address, a name, or a container; "" is the loopback of the claim's family
	Port uint16
}

// ContainerPrefix begins the host of a service that is a container; its name follows.
const ContainerPrefix = "docker:"

// Container is the name of the container that the service is, if it is one.
func (s Service) Container() (name string, ok bool) {
	return strings.CutPrefix(s.Host, ContainerPrefix)
}

// String is the service as in -p.
func (s Service) String() string {
	if s.Host == "" {
		return strconv.Itoa(int(s.Port))
	}
	if _, ok := s.Container(); ok {
		return fmt.Sprintf("%s:%d", s.Host, s.Port)
	}
	return net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port)))
}

// Named reports whether s has a name, which is resolved for each peer.
func (s Service) Named() bool {
	_, err := netip.ParseAddr(s.Host)
	return s.Host != "" && err != nil
}

// Sentinel errors of finding a service's address.
var (
	ErrNoService = errors.New("no service on this port")
	// ErrFamily: an IPv6 peer cannot be the source of a dial to an IPv4
	// address, nor the other way round.
	ErrFamily = errors.New("the service has no address of the peer's family")
	// errAway is of a container that is not there now.
	errAway = errors.New("the service is away")
)

// Resolver finds the addresses of a name; network is "ip4" or "ip6". A
// *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Containers know where containers are. A *docker.Engine does.
type Containers interface {
	// Address is a container's address in the family of claim, the zero Addr if it has
	// none. It does not wait.
	Address(container string, claim netip.Addr) (netip.Addr, error)
}

// Book has the addresses of services that are given by a name.
type Book struct {
	Names      Resolver
	Containers Containers // may be nil if no service is a container
}

// known is the address of s in the family of claim, unless it has a name that has to be
// resolved.
func (b Book) known(s Service, claim netip.Addr) (addr netip.Addr, ok bool, err error) {
	switch {
	case s.Host == "" && claim.Is4():
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), true, nil
	case s.Host == "":
		return netip.IPv6Loopback(), true, nil
	}
	if name, isContainer := s.Container(); isContainer {
		addr, err = b.Containers.Address(name, claim)
		switch {
		case err != nil:
			return netip.Addr{}, true, fmt.Errorf("%w: %w", errAway, err)
		case !addr.IsValid():
			return netip.Addr{}, true, ErrFamily
		}
		return addr, true, nil
	}
	addr, err = netip.ParseAddr(s.Host)
	if err != nil {
		return netip.Addr{}, false, nil //nolint:nilerr // a name
	}
	if addr = addr.Unmap(); addr.Is4() != claim.Is4() {
		return netip.Addr{}, true, ErrFamily
	}
	return addr, true, nil
}

// addresses lists the addresses of s in the family of claim.
func (b Book) addresses(ctx context.Context, s Service, claim netip.Addr) ([]netip.Addr, error) {
	if a, ok, err := b.known(s, claim); err != nil {
		return nil, err
	} else if ok {
		return []netip.Addr{a}, nil
	}
	network := "ip6"
	if claim.Is4() {
		network = "ip4"
	}
	addrs, err := b.Names.LookupNetIP(ctx, network, s.Host)
	dns, notFound := errors.AsType[*net.DNSError](err)
	if notFound {
		notFound = dns.IsNotFound
	}
	// Package net's word for a name of which it knows addresses of the other
	// family only.
	if _, other := errors.AsType[*net.AddrError](err); other || notFound {
		return nil, fmt.Errorf("%w: %w", ErrFamily, err)
	}
	if err != nil {
		return nil, fmt.Errorf("resolve service: %w", err)
	}
	list := make([]netip.Addr, 0, len(addrs))
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() == claim.Is4() {
			list = append(list, a)
		}
	}
	if len(list) == 0 {
		return nil, ErrFamily
	}
	return list, nil
}

// Addresses lists every address of s that a claim could be dialled to, of
// both families, for setting up return routes ahead of need. A name for which
// none is found now gives an error, and may have some later.
func (b Book) Addresses(ctx context.Context, s Service) ([]netip.Addr, error) {
	var all []netip.Addr
	var failed error
	for _, family := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		list, err := b.addresses(ctx, s, family)
		all = append(all, list...)
		if err != nil && !errors.Is(err, ErrFamily) {
			failed = err
		}
	}
	if len(all) == 0 && failed == nil {
		failed = fmt.Errorf("%s has no address", s.Host)
	}
	if len(all) > 0 {
		failed = nil
	}
	return all, failed
}
