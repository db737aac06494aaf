package doctor

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"portredirector/internal/upstream"
)

// nameTimeout is the time limit for the lookup of a name.
const nameTimeout = 5 * time.Second

// checkNames resolves the names of servers, clients and services.
func (p *Patient) checkNames(ctx context.Context, report reporter) {
	p.unnamed = make(map[string]bool)
	for _, name := range p.names() {
		found, err := lookUp(ctx, name)
		if err != nil {
			p.unnamed[name] = true
			host := strings.TrimPrefix(name, upstream.SRVPrefix)
			report("names", Fail, fmt.Sprintf("%s does not resolve: %v", host, err),
				fmt.Sprintf("getent ahosts %s asks again; look at /etc/resolv.conf and /etc/hosts, or give the address", host))
			continue
		}
		report("names", OK, name+" is "+strings.Join(found, ", "), "")
	}
}

// lookUp resolves a name, or lists the records of srv:NAME.
func lookUp(ctx context.Context, name string) (found []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, nameTimeout)
	defer cancel()
	service, isSRV := strings.CutPrefix(name, upstream.SRVPrefix)
	if !isSRV {
		return net.DefaultResolver.LookupHost(ctx, name)
	}
	_, records, err := net.DefaultResolver.LookupSRV(ctx, "", "", service)
	for _, r := range records {
		found = append(found, fmt.Sprintf("%s:%d", strings.TrimSuffix(r.Target, "."), r.Port))
	}
	return found, err
}

// names lists the names to resolve, without duplicates.
func (p *Patient) names() []string {
	all := make(map[string]bool)
	add := func(host string) {
		if _, err := netip.ParseAddr(host); err != nil && host != "" {
			all[host] = true
		}
	}
	others := []string(nil)
	if p.Client != nil {
		others = p.Client.Servers
	} else {
		others = p.Server.Clients
		for _, s := range p.Server.Services {
			if _, isContainer := s.Container(); !isContainer {
				add(s.Host)
			}
		}
	}
	for _, at := range others {
		add(hostOf(at))
	}
	return slices.Sorted(maps.Keys(all))
}

// hostOf returns the host of host:port, or srv:name unchanged.
func hostOf(at string) string {
	if strings.HasPrefix(at, upstream.SRVPrefix) {
		return at
	}
	host, _, _ := net.SplitHostPort(at)
	return host
}
