package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"portredirector/internal/testnet"
)

// portredirector is the product, started as its README says.
type portredirector struct {
	name string
	// noPool has the client open no links ahead of need. It is there to show what
	// these give, so it is measured where that is most.
	noPool bool
	// keys secures the links: by TLS, or with authOnly by authentication alone.
	keys, authOnly bool
	// dials has the server open the links, as one behind NAT does.
	dials bool
}

func (p portredirector) Name() string { return p.name }

// Takes reports whether a row is about what there may be none of, or what there
// is more of.
func (p portredirector) Takes(r row, _ int) bool {
	switch {
	case p.noPool:
		return strings.HasPrefix(r.name, "first-byte-far-") && !r.secured
	case p.dials:
		return strings.HasPrefix(r.name, "first-byte-far-") && r.secured
	case p.keys:
		return r.secured
	}
	return true
}

func (p portredirector) Setup(ctx context.Context, w *world) (deployment, error) {
	binary := filepath.Join(w.scratch, scratchBinary)
	daemon := func(h *testnet.Host, args ...string) (*process, error) {
		p, err := w.start(ctx, h, binary, args...)
		if err != nil {
			return nil, err
		}
		ready := args[0] + " is ready"
		return p, p.await(ctx, func() (bool, error) { return p.said.contains(ready), nil })
	}
	clientKeys, serverKeys, err := p.secure(ctx, w, binary)
	if err != nil {
		return deployment{}, err
	}
	clientLink, serverLink := []string{"-c", linkAddr.String()}, []string{"-l", linkAddr.String()}
	if p.dials {
		clientLink, serverLink = []string{"-l", backAddr.String()}, []string{"-c", backAddr.String()}
	}
	if p.noPool {
		clientLink = append(clientLink, "--pool-max", "0")
	}
	server, err := daemon(w.m2, slices.Concat([]string{"server"}, serverLink,
		[]string{"-p", fmt.Sprintf("%d=127.0.0.1:%d", servicePort, servicePort)}, serverKeys)...)
	if err != nil {
		return deployment{}, err
	}
	client, err := daemon(w.m1, slices.Concat([]string{"client"}, clientLink, []string{"-p", entryAddr.String()}, clientKeys)...)
	if err != nil {
		return deployment{}, err
	}
	if p.dials { // the server has tried before there was a client
		if err := client.await(ctx, func() (bool, error) { return client.said.contains("server has dialed"), nil }); err != nil {
			return deployment{}, err
		}
	}
	return deployment{
		target: entryAddr,
		pids:   map[string]int{onM1: client.cmd.Process.Pid, onM2: server.cmd.Process.Pid},
	}, nil
}
