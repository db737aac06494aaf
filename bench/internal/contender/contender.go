package contender

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"portredirector/bench/internal/world"
)

// Contender is a way from the peers to the service. To add one, implement this and add it to All.
//
// go-mmproxy and frp are not among them: the Go module proxy does not have them, and everything measured here was installed by
// the system's own means.
type Contender interface {
	// Name is that of its column.
	Name() string
	// Setup starts the contender for a row in a new world, by World.Start, and waits until it accepts connections. The world ends it.
	Setup(ctx context.Context, w *world.World, s Subject) (deployment, error)
}

// Selective is a contender that is measured in some rows and rounds only.
type Selective interface {
	Contender
	// Takes reports whether the contender is measured in a row. The first round is 0.
	Takes(r Subject, round int) bool
}

// Subject describes a row to a contender.
type Subject struct {
	Name    string
	Proxies bool // the processes of a contender: only contenders that have some are measured
	Secured bool // securing the links
	// Datagrams says that the row is about UDP.
	Datagrams bool
}

// deployment is a running contender.
type deployment struct {
	Target netip.AddrPort // where peers connect
	Pids   map[string]int // its processes, by host: what CPU and memory are measured of
}

// The hosts that proxies run on.
const (
	OnM1 = "M1"
	OnM2 = "M2"
)

// The names of contenders that reports refer to.
const (
	Direct      = "direct"
	HAProxy     = "haproxy" // what the ratios are to
	HAProxyTLS  = "haproxy-tls"
	Product     = "portredirector"
	NoPool      = "portredirector-nopool"
	ProductTLS  = "portredirector-tls"
	ProductAuth = "portredirector-auth"
	Dials       = "portredirector-dials"
	Nginx       = "nginx"
)

// All returns all contenders. The first DefaultCount are measured by default.
func All() []Contender {
	return []Contender{
		direct{},
		haproxy{name: HAProxy, splice: spliceAuto},
		haproxy{name: "haproxy-tuned", splice: spliceAll, sysctls: true, rows: regexp.MustCompile("^(bulk-[0-9]+-(up|down)|conn-peer-fin)$")},
		haproxy{name: HAProxyTLS, splice: spliceAuto, tls: true},
		portredirector{name: Product},
		portredirector{name: NoPool, noPool: true},
		portredirector{name: ProductTLS, keys: true},
		portredirector{name: ProductAuth, keys: true, authOnly: true},
		portredirector{name: Dials, keys: true, dials: true},
		nginx{},
		haproxy{name: "haproxy-copy"},
	}
}

// Binary is the name of the product's binary in the scratch directory.
const Binary = "portredirector"

// Before is the suffix of an earlier binary of the product, and of the contenders that run it.
const Before = "-before"

// WithBefore returns the contenders, with each portredirector followed by the same one of the earlier binary.
func WithBefore(contenders []Contender) (all []Contender) {
	for _, c := range contenders {
		all = append(all, c)
		if p, ok := c.(portredirector); ok {
			p.suffix = Before
			all = append(all, p)
		}
	}
	return all
}

// DefaultCount is the number of contenders, the first of all, that are measured unless others are named.
const DefaultCount = 10

// Names returns the names of contenders.
func Names(contenders []Contender) []string {
	var all []string
	for _, c := range contenders {
		all = append(all, c.Name())
	}
	return all
}

// ByName returns the contenders of a comma-separated list.
func ByName(list string) ([]Contender, error) {
	var found []Contender
	for name := range strings.SplitSeq(list, ",") {
		all := All()
		i := slices.IndexFunc(all, func(c Contender) bool { return c.Name() == name })
		if i < 0 {
			return nil, fmt.Errorf("no contender %q; there are %s", name, strings.Join(Names(all), ", "))
		}
		found = append(found, all[i])
	}
	return found, nil
}
