package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// target is where a server is.
type target struct {
	name     string // for the log, and to know it again
	host     string // for its certificate
	addrs    []netip.AddrPort
	priority int // of several of one list, the lowest that works counts (RFC 2782)
	weight   int // at least 1
}

// Resolver finds addresses and SRV records. A *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// SRVPrefix marks a server that is the name of SRV records.
const SRVPrefix = "srv:"

const (
	// resolveEvery is how often names are resolved. Package net does not tell the
	// time to live of what it finds.
	resolveEvery = 30 * time.Second
	// resolveAgain is for a name that has no address, or of which none works.
	resolveAgain = 2 * time.Second
	// lookupTimeout is for all that one list needs.
	lookupTimeout = 10 * time.Second
)

// list is what one -c stands for: one server, or several.
type list struct {
	links   *Links
	name    string
	again   chan struct{} // resolve it soon
	servers []*server     // its task alone changes them, with Links.mu
	told    bool          // that it cannot be resolved
}

// literal is the address of a list that is no name.
func (l *list) literal() (netip.AddrPort, bool) {
	a, err := netip.ParseAddrPort(l.name)
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), err == nil
}

// run resolves a name again and again, until ctx ends.
func (l *list) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := l.update(ctx)
		pause := resolveEvery
		if err != nil {
			pause = resolveAgain
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
		case <-l.again:
			timer.Reset(resolveAgain)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		}
		timer.Stop()
	}
}

// update resolves the name once.
func (l *list) update(ctx context.Context) error {
	lctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	targets, err := l.lookUp(lctx)
	log := l.links.cfg.Log.With(slog.String("server", l.name))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && !l.told:
		l.told = true
		log.Warn("server cannot be resolved, trying again", slog.Any("error", err))
	case err == nil && l.told:
		l.told = false
		log.Info("server is resolved again")
	}
	if err == nil {
		l.links.apply(ctx, l, targets)
	}
	return err
}

// resolveSoon asks for an update out of turn.
func (l *list) resolveSoon() {
	select {
	case l.again <- struct{}{}:
	default:
	}
}

// lookUp finds out what the name stands for now.
func (l *list) lookUp(ctx context.Context) ([]target, error) {
	name, isSRV := strings.CutPrefix(l.name, SRVPrefix)
	if !isSRV {
		host, port, err := splitHostPort(l.name)
		if err != nil {
			return nil, err
		}
		return l.host(ctx, host, port, target{name: l.name, host: host, weight: 1})
	}
	_, records, err := l.links.cfg.Resolver.LookupSRV(ctx, "", "", name)
	if err != nil {
		return nil, err
	}
	var all []target
	var failed error
	for _, r := range records {
		host := strings.TrimSuffix(r.Target, ".")
		if host == "" {
			continue // it says that there is none (RFC 2782)
		}
		t := target{
			name: net.JoinHostPort(host, strconv.Itoa(int(r.Port))), host: host,
			priority: int(r.Priority), weight: max(1, int(r.Weight)),
		}
		if slices.ContainsFunc(all, func(o target) bool { return o.name == t.name }) {
			continue
		}
		found, err := l.host(ctx, host, r.Port, t)
		if dns, ok := errors.AsType[*net.DNSError](err); ok && !dns.IsNotFound && len(l.servers) > 0 {
			return nil, err // it may be known, and is to stay so
		}
		failed = errors.Join(failed, err)
		all = append(all, found...)
	}
	if len(all) == 0 {
		return nil, errors.Join(errors.New("it names no server"), failed)
	}
	return all, nil
}

// host resolves one host. Where peers are spread over servers, each of its addresses
// is one.
func (l *list) host(ctx context.Context, host string, port uint16, t target) ([]target, error) {
	var err error
	if t.addrs, err = addressesOf(ctx, l.links.cfg.Resolver, host, port); err != nil {
		return nil, err
	}
	if l.links.cfg.Balance == Failover || len(t.addrs) == 1 {
		return []target{t}, nil
	}
	var all []target
	for _, a := range t.addrs {
		one := t
		one.name, one.addrs = fmt.Sprintf("%s (%s)", a, t.name), []netip.AddrPort{a}
		all = append(all, one)
	}
	return all, nil
}

// addressesOf resolves a host, for a race: both families by turns.
func addressesOf(ctx context.Context, r Resolver, host string, port uint16) (addrs []netip.AddrPort, err error) {
	found, err := r.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	for _, a := range interleave(found) {
		if at := netip.AddrPortFrom(a, port); !slices.Contains(addrs, at) {
			addrs = append(addrs, at)
		}
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("%s has no address", host)
	}
	return addrs, nil
}

// splitHostPort splits "host:port", with a number.
func splitHostPort(name string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(name)
	if err != nil {
		return "", 0, err
	}
	number, err := strconv.ParseUint(text, 10, 16)
	return host, uint16(number), err
}
