package docker

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// listed is a container in the engine's list.
type listed struct {
	Names []string
	Ports []struct {
		IP          string
		PrivatePort uint16
		PublicPort  uint16 // 0 if it is not published
		Type        string
	}
	NetworkSettings networks
}

// list returns the running containers.
func (a *api) list(ctx context.Context) (list []listed, err error) {
	err = a.get(ctx, "/containers/json", &list)
	return list, err
}

// name returns the container's own name. The others are links to it, "/other/alias".
func (l listed) name() string {
	for _, n := range l.Names {
		if n = strings.TrimPrefix(n, "/"); CheckName(n) == nil {
			return n
		}
	}
	return ""
}

// published returns the ports that docker-proxy listens on if all are published in the
// usual way. It leaves out containers of an engine in another network namespace: their
// gateways are not addresses of this machine.
func published(list []listed, own func(netip.Addr) bool) Proxies {
	var all Proxies
	for _, c := range list {
		at := placeIn(ownNetworks(c.NetworkSettings, own))
		for _, port := range c.Ports {
			host, err := netip.ParseAddr(port.IP)
			kind, known := protocol(port.Type)
			if err != nil || port.PublicPort == 0 || !known {
				continue
			}
			leads := at.v4
			if host.Is6() && at.v6.IsValid() || !leads.IsValid() {
				leads = at.v6
			}
			if leads.IsValid() {
				all = append(all, Proxy{
					Protocol:  kind,
					Host:      netip.AddrPortFrom(host, port.PublicPort),
					Container: netip.AddrPortFrom(leads, port.PrivatePort),
					Name:      c.name(),
				})
			}
		}
	}
	return all
}

// ownNetworks returns the networks whose gateway is an own address.
func ownNetworks(n networks, own func(netip.Addr) bool) networks {
	here := maps.Clone(n.Networks)
	maps.DeleteFunc(here, func(_ string, e endpoint) bool {
		return !slices.ContainsFunc([]string{e.Gateway, e.IPv6Gateway}, func(gateway string) bool {
			a, err := netip.ParseAddr(gateway)
			return err == nil && own(a)
		})
	})
	return networks{here}
}
