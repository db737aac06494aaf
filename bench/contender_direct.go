package main

import (
	"context"
	"net/netip"
)

// direct is no proxy at all: M1 is a router, and the peers reach the service at
// M2's own address. It is what the machine, the peers and the service can do,
// and the bound for every proxy.
type direct struct{}

func (direct) Name() string { return nameDirect }

// Takes leaves out what is about the processes of a proxy or about securing a
// link, and the later rounds: no ratio depends on it.
func (direct) Takes(r subject, round int) bool { return !r.proxies && !r.secured && round < 3 }

func (direct) Setup(_ context.Context, w *world) (deployment, error) {
	return deployment{target: netip.AddrPortFrom(m2Link.Addr(), servicePort)}, w.m1.SetSysctl("net.ipv4.ip_forward", "1")
}
