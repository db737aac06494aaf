package contender

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"portredirector/bench/internal/world"
	"portredirector/internal/testnet"
)

// portredirector is the product, started as its README says.
type portredirector struct {
	name string
	// suffix is that of the binary and the name, see Before.
	suffix string
	// noPool disables links ahead of need. It is measured where they matter most.
	noPool bool
	// keys secures the links: by TLS, or with authOnly by authentication alone.
	keys, authOnly bool
	// dials has the server open the links, as one behind NAT does.
	dials bool
}

func (p portredirector) Name() string { return p.name + p.suffix }

// Takes reports whether a row concerns the pool, the keys or the direction that the contender differs in.
func (p portredirector) Takes(r Subject, _ int) bool {
	switch {
	case r.Datagrams:
		return !p.noPool && !p.dials && !p.authOnly
	case p.noPool:
		return strings.HasPrefix(r.Name, "first-byte-far-") && !r.Secured
	case p.dials:
		return strings.HasPrefix(r.Name, "first-byte-far-") && r.Secured
	case p.keys:
		return r.Secured
	}
	return true
}

func (p portredirector) Setup(ctx context.Context, w *world.World, s Subject) (deployment, error) {
	binary := filepath.Join(w.Scratch, Binary+p.suffix)
	daemon := func(h *testnet.Host, args ...string) (*world.Process, error) {
		p, err := w.Start(ctx, h, binary, args...)
		if err != nil {
			return nil, err
		}
		ready := args[0] + " is ready"
		return p, p.Await(ctx, func() (bool, error) { return p.HasSaid(ready), nil })
	}
	clientKeys, serverKeys, err := p.secure(ctx, w, binary)
	if err != nil {
		return deployment{}, err
	}
	clientLink, serverLink := []string{"-c", world.LinkAddr.String()}, []string{"-l", world.LinkAddr.String()}
	if p.dials {
		clientLink, serverLink = []string{"-l", world.BackAddr.String()}, []string{"-c", world.BackAddr.String()}
	}
	if p.noPool {
		clientLink = append(clientLink, "--pool-max", "0")
	}
	protocol := ""
	if s.Datagrams {
		protocol = "/udp"
	}
	server, err := daemon(w.M2, slices.Concat([]string{"server"}, serverLink,
		[]string{"-p", fmt.Sprintf("%d=127.0.0.1:%d%s", world.ServicePort, world.ServicePort, protocol)}, serverKeys)...)
	if err != nil {
		return deployment{}, err
	}
	client, err := daemon(w.M1, slices.Concat([]string{"client"}, clientLink, []string{"-p", world.EntryAddr.String() + protocol}, clientKeys)...)
	if err != nil {
		return deployment{}, err
	}
	if p.dials { // the server has tried before there was a client
		if err := client.Await(ctx, func() (bool, error) { return client.HasSaid("server has dialed"), nil }); err != nil {
			return deployment{}, err
		}
	}
	return deployment{
		Target: world.EntryAddr,
		Pids:   map[string]int{OnM1: client.PID(), OnM2: server.PID()},
	}, nil
}
