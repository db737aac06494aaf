package contender

import (
	"context"
	"net/netip"

	"portredirector/bench/internal/world"
)

// direct is no proxy at all: M1 is a router, and the peers reach the service at
// M2's own address. It is what the machine, the peers and the service can do,
// and the bound for every proxy.
type direct struct{}

func (direct) Name() string { return Direct }

// Takes leaves out what is about the processes of a proxy or about securing a
// link, and the later rounds: no ratio depends on it.
func (direct) Takes(r Subject, round int) bool { return !r.Proxies && !r.Secured && round < 3 }

func (direct) Setup(_ context.Context, w *world.World) (deployment, error) {
	return deployment{Target: netip.AddrPortFrom(world.M2Link.Addr(), world.ServicePort)}, w.M1.SetSysctl("net.ipv4.ip_forward", "1")
}
