package main

import (
	"context"
	"fmt"
	"path/filepath"

	"portredirector/internal/netns"
)

// portredirector is the product, started as its README says.
type portredirector struct{}

func (portredirector) Name() string { return nameProduct }

func (portredirector) Setup(ctx context.Context, w *world) (deployment, error) {
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
	client, err := daemon(w.m1, "client", "-c", linkAddr.String(), "-p", entryAddr.String())
	if err != nil {
		return deployment{}, err
	}
	return deployment{
		target: entryAddr,
		pids:   map[string]int{onM1: client.cmd.Process.Pid, onM2: server.cmd.Process.Pid},
	}, nil
}
