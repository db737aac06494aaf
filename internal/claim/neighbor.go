package claim

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrNeighbor refuses a claim in a network that is between this machine and the service.
// The service, or a router in between, would reply to a neighbor in that network, and the
// reply would never come back to this machine.
var ErrNeighbor = errors.New("the claim is in the network of the service")

// neighborError names both.
type neighborError struct {
	claim, service netip.Addr
	network        netip.Prefix
}

func (e *neighborError) Error() string {
	return fmt.Sprintf("%s is in %s, the network through which this machine reaches the service at %s: "+
		"replies would go to a neighbor there; give that network another range, or run the service on this machine",
		e.claim, e.network, e.service)
}

func (e *neighborError) Is(target error) bool { return target == ErrNeighbor }

// CheckService returns an [ErrNeighbor] if replies of the service to a claim could not
// come back. A service on this machine replies to any claim. An administrator's permission
// for the whole network lifts the refusal.
func (p *Policy) CheckService(claim, service netip.Addr) error {
	switch {
	case service.IsLoopback():
		return nil
	case claim.Is6() && claim.IsLinkLocalUnicast():
		return fmt.Errorf("%w: %s is link-local, and only services on loopback can reply to it", ErrNeighbor, claim)
	case p.Own == nil:
		return nil
	}
	for _, network := range p.Own.networks(service) {
		if network.Contains(claim) && longest(p.Allow, claim).Bits() < network.Bits() {
			return &neighborError{claim, service, network}
		}
	}
	return nil
}

// networksFor bounds the age of the remembered networks of a service. Changes of addresses
// and interfaces are noticed at once, those of routes are not.
const networksFor = 5 * time.Second

// ways remembers through which networks services are reached.
type ways struct {
	byInterface map[int][]netip.Prefix // the networks of each interface

	mu       sync.Mutex
	services map[netip.Addr]way // guarded by mu
}

// way is the answer for one service.
type way struct {
	networks []netip.Prefix
	until    time.Time
}

// networks returns the networks of the interface through which a service is reached; none
// if the service is on this machine.
func (o *Own) networks(service netip.Addr) []netip.Prefix {
	w := &o.known.Load().ways
	w.mu.Lock()
	defer w.mu.Unlock()
	if known, ok := w.services[service]; ok && time.Now().Before(known.until) {
		return known.networks
	}
	found := w.byInterface[o.interfaceTo(service)]
	if w.services == nil {
		w.services = make(map[netip.Addr]way)
	}
	w.services[service] = way{found, time.Now().Add(networksFor)}
	return found
}

// interfaceTo returns the index of the interface through which a service is reached, 0 if
// that is this machine or if there is no route.
func (o *Own) interfaceTo(service netip.Addr) int {
	if o.routes == nil {
		return 0
	}
	found, err := o.routes.RouteGet(service.AsSlice())
	if err != nil || len(found) == 0 || found[0].Type != unix.RTN_UNICAST {
		return 0
	}
	return found[0].LinkIndex
}

// add notes the network of an interface's address.
func (w *ways) add(a netlink.Addr) {
	network := a.IPNet
	if a.Peer != nil {
		network = a.Peer
	}
	ip, ok := netip.AddrFromSlice(network.IP)
	bits, _ := network.Mask.Size()
	p, err := ip.Unmap().Prefix(bits)
	if !ok || err != nil || p.IsSingleIP() {
		return
	}
	if w.byInterface == nil {
		w.byInterface = make(map[int][]netip.Prefix)
	}
	w.byInterface[a.LinkIndex] = append(w.byInterface[a.LinkIndex], p)
}
