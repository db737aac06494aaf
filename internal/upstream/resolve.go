package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"portredirector/internal/dial"
)

// SRVPrefix marks a server that is the name of SRV records.
const SRVPrefix = "srv:"

// endpoint has the addresses of a server.
type endpoint struct {
	name     string // for the log, and to find the server again
	host     string // for its certificate
	addrs    []netip.AddrPort
	priority int // of several in a group the lowest that is in use counts (RFC 2782)
	weight   int // at least 1
}

// lookUp resolves the name of a group.
func (g *group) lookUp(ctx context.Context) ([]endpoint, error) {
	name, isSRV := strings.CutPrefix(g.name, SRVPrefix)
	if isSRV {
		return g.lookUpSRV(ctx, name)
	}
	host, port, err := dial.SplitHostPort(g.name)
	if err != nil {
		return nil, err
	}
	return g.lookUpHost(ctx, port, endpoint{name: g.name, host: host, weight: 1})
}

func (g *group) lookUpSRV(ctx context.Context, name string) ([]endpoint, error) {
	_, records, err := g.set.cfg.Resolver.LookupSRV(ctx, "", "", name)
	if err != nil {
		return nil, err
	}
	var all []endpoint
	var failed error
	for _, r := range records {
		host := strings.TrimSuffix(r.Target, ".")
		if host == "" {
			continue // it says that there is none (RFC 2782)
		}
		e := endpoint{
			name: net.JoinHostPort(host, strconv.Itoa(int(r.Port))), host: host,
			priority: int(r.Priority), weight: max(1, int(r.Weight)),
		}
		if slices.ContainsFunc(all, func(o endpoint) bool { return o.name == e.name }) {
			continue
		}
		found, err := g.lookUpHost(ctx, r.Port, e)
		if dns, ok := errors.AsType[*net.DNSError](err); ok && !dns.IsNotFound && len(g.dialed) > 0 {
			return nil, err // the server may be known, and is to stay so
		}
		failed = errors.Join(failed, err)
		all = append(all, found...)
	}
	if len(all) == 0 {
		return nil, errors.Join(errors.New("it names no server"), failed)
	}
	return all, nil
}

// lookUpHost resolves one host. Each of its addresses is a server of its own where peers
// are spread over servers.
func (g *group) lookUpHost(ctx context.Context, port uint16, e endpoint) ([]endpoint, error) {
	var err error
	if e.addrs, err = dial.Addresses(ctx, g.set.cfg.Resolver, e.host, port); err != nil {
		return nil, err
	}
	if g.set.cfg.Balance == Failover || len(e.addrs) == 1 {
		return []endpoint{e}, nil
	}
	var all []endpoint
	for _, a := range e.addrs {
		one := e
		one.name, one.addrs = fmt.Sprintf("%s (%s)", a, e.name), []netip.AddrPort{a}
		all = append(all, one)
	}
	return all, nil
}
