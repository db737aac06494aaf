package contender

import (
	"context"
	"net/netip"
	"strings"

	"portredirector/bench/internal/world"
)

// direct is no proxy: M1 is a router, and the peers connect to the service at M2's own address. It is the bound for every proxy.
type direct struct{}

func (direct) Name() string { return Direct }

// Takes omits rows about the processes of a proxy, most of those about secured links, and later rounds.
func (direct) Takes(r Subject, round int) bool {
	return !r.Proxies && (!r.Secured || strings.HasPrefix(r.Name, "answer-far-")) && round < 3
}

func (direct) Setup(_ context.Context, w *world.World, _ Subject) (deployment, error) {
	return deployment{Target: netip.AddrPortFrom(world.M2Link.Addr(), world.ServicePort)}, w.M1.SetSysctl("net.ipv4.ip_forward", "1")
}
