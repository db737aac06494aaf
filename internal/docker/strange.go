package docker

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// reachable returns p without the addresses that no network of this machine has. If none
// is left the container is nowhere: a dial would leave by the default route, with the
// peer's address as its source.
func (e *Engine) reachable(name string, p place) place {
	if e.strange == nil || p.err != nil {
		return p
	}
	for _, a := range []*netip.Addr{&p.v4, &p.v6} {
		if a.IsValid() && e.strange(*a) {
			p.strange, *a = *a, netip.Addr{}
		}
	}
	if p.strange.IsValid() && !p.v4.IsValid() && !p.v6.IsValid() {
		p.err = fmt.Errorf("container %s has the address %s, which no network of this machine has: "+
			"its engine is rootless or remote; run the server where the container's network is", name, p.strange)
	}
	return p
}

// networksChanged reports whether a container that was in no network of this machine is
// in one now, or the reverse.
func (e *Engine) networksChanged() bool {
	if e.strange == nil {
		return false
	}
	for _, known := range e.containers {
		p := known.Load()
		for _, a := range []netip.Addr{p.v4, p.v6} {
			if a.IsValid() && e.strange(a) {
				return true
			}
		}
		if p.strange.IsValid() && !e.strange(p.strange) {
			return true
		}
	}
	return false
}

// Unhealthy returns an error if a container is in no network of this machine.
func (e *Engine) Unhealthy() error {
	for _, name := range slices.Sorted(maps.Keys(e.containers)) {
		if p := e.containers[name].Load(); p.strange.IsValid() && p.err != nil {
			return p.err
		}
	}
	return nil
}
