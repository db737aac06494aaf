package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"portredirector/internal/netns"
)

// portredirector is the product, started as its README says.
type portredirector struct {
	// noPool has the client open no links ahead of need. It is there to show what
	// these give, so it is measured where that is most.
	noPool bool
}

func (p portredirector) Name() string {
	if p.noPool {
		return nameNoPool
	}
	return nameProduct
}

// Takes reports whether a row is about what there may be none of.
func (p portredirector) Takes(r row, _ int) bool {
	return !p.noPool || strings.HasPrefix(r.name, "first-byte-far-")
}

func (p portredirector) Setup(ctx context.Context, w *world) (deployment, error) {
	binary := filepath.Join(w.scratch, scratchBinary)
	daemon := func(h *netns.Host, args ...string) (*process, error) {
		p, err := w.start(ctx, h, binary, args...)
		if err != nil {
			return nil, err
		}
		ready := args[0] + " is ready"
		return p, p.await(ctx, func() (bool, error) { return p.said.contains(ready), nil })
	}
	server, err := daemon(w.m2, "server", "-l", linkAddr.String(), "-p", fmt.Sprintf("%d=127.0.0.1:%d", servicePort, servicePort))
	if err != nil {
		return deployment{}, err
	}
	args := []string{"client", "-c", linkAddr.String(), "-p", entryAddr.String()}
	if p.noPool {
		args = append(args, "--pool-max", "0")
	}
	client, err := daemon(w.m1, args...)
	if err != nil {
		return deployment{}, err
	}
	return deployment{
		target: entryAddr,
		pids:   map[string]int{onM1: client.cmd.Process.Pid, onM2: server.cmd.Process.Pid},
	}, nil
}
