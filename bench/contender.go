package main

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// contender is a way from the peers to the service. To add one, implement this
// and put it into allContenders.
//
// go-mmproxy, the other half of a set-up with HAProxy on M1 alone or with frp, is
// not among them, and neither is frp: they are no modules that the Go module proxy
// gives out, and nothing is measured here that was not installed by the system's
// own means.
type contender interface {
	// Name is that of its column.
	Name() string
	// Setup brings it up in a fresh world, by world.start, and waits until it
	// takes connections. The world ends it.
	Setup(ctx context.Context, w *world) (deployment, error)
}

// picky is a contender that is not measured in every row and every round.
type picky interface {
	contender
	// Takes reports whether the contender is measured in a row. The first round is 0.
	Takes(r subject, round int) bool
}

// subject is what a row is about, as far as contenders differ in it.
type subject struct {
	name    string
	proxies bool // the processes of a contender: only contenders that have some are measured
	secured bool // securing the links
}

// deployment is a contender at work.
type deployment struct {
	target netip.AddrPort // where peers connect
	pids   map[string]int // its processes, by host: what CPU and memory are measured of
}

// The hosts that proxies run on.
const (
	onM1 = "M1"
	onM2 = "M2"
)

// The names of contenders that reports refer to.
const (
	nameDirect      = "direct"
	nameHAProxy     = "haproxy" // what the ratios are to
	nameHAProxyTLS  = "haproxy-tls"
	nameProduct     = "portredirector"
	nameNoPool      = "portredirector-nopool"
	nameProductTLS  = "portredirector-tls"
	nameProductAuth = "portredirector-auth"
	nameDials       = "portredirector-dials"
)

// allContenders are those there are. The first few are those measured unless
// told otherwise.
func allContenders() []contender {
	return []contender{
		direct{},
		haproxy{name: nameHAProxy, splice: spliceAuto},
		haproxy{name: "haproxy-tuned", splice: spliceAll, sysctls: true, rows: regexp.MustCompile("^(bulk-[0-9]+-(up|down)|conn-peer-fin)$")},
		haproxy{name: nameHAProxyTLS, splice: spliceAuto, tls: true},
		portredirector{name: nameProduct},
		portredirector{name: nameNoPool, noPool: true},
		portredirector{name: nameProductTLS, keys: true},
		portredirector{name: nameProductAuth, keys: true, authOnly: true},
		portredirector{name: nameDials, keys: true, dials: true},
		haproxy{name: "haproxy-copy"},
	}
}

// scratchBinary is the name of the product's binary in the scratch directory.
const scratchBinary = "portredirector"

const defaultContenders = 9

// names returns the names of contenders.
func names(contenders []contender) []string {
	var all []string
	for _, c := range contenders {
		all = append(all, c.Name())
	}
	return all
}

// contendersByName returns the contenders of a comma-separated list.
func contendersByName(list string) ([]contender, error) {
	var found []contender
	for name := range strings.SplitSeq(list, ",") {
		all := allContenders()
		i := slices.IndexFunc(all, func(c contender) bool { return c.Name() == name })
		if i < 0 {
			return nil, fmt.Errorf("no contender %q; there are %s", name, strings.Join(names(all), ", "))
		}
		found = append(found, all[i])
	}
	return found, nil
}
