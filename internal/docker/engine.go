package docker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
)

// Engine knows where some containers are: as it was when [Engine.Refresh] asked, and up to
// date as long as [Engine.Run] runs. What is known stays in use while the engine is away.
//
// Address may be called concurrently with everything; Look and Run are for one goroutine at
// a time.
type Engine struct {
	api        *api
	log        *slog.Logger
	containers map[string]*atomic.Pointer[place]                 // by name; the map stays as it is
	lastError    string                                            // why the engine could not be asked; "" if it could
	led        atomic.Pointer[map[netip.AddrPort]netip.AddrPort] // services whose peers go to a container; nil if there are none
	strange    func(netip.Addr) bool                             // no network of this machine has an address; may be nil
}

// New asks nobody yet. The socket is a file; containers are names or ids.
func New(socket string, containers []string, log *slog.Logger) *Engine {
	e := &Engine{api: newAPI(socket), log: log, containers: make(map[string]*atomic.Pointer[place])}
	for _, name := range containers {
		known := new(atomic.Pointer[place])
		known.Store(&place{err: errors.New("the engine was not asked yet"), unasked: true})
		e.containers[name] = known
	}
	return e
}

// DialBy makes dial connect to the engine's socket, for a program that no longer may itself. Call it
// before Look and Run.
func (e *Engine) DialBy(dial func(ctx context.Context, socket string) (net.Conn, error)) {
	e.api.dial = dial
}

// CheckNetworks makes strange tell the addresses of containers that are not in this
// machine's networks, because the engine is rootless or remote. Call it before Look and
// Run.
func (e *Engine) CheckNetworks(strange func(netip.Addr) bool) { e.strange = strange }

// Address is a container's address in the family of claim, for which it does not wait; the
// zero Addr if it has none. The error is why it has no address at all.
func (e *Engine) Address(container string, claim netip.Addr) (netip.Addr, error) {
	known, ok := e.containers[container]
	if !ok {
		return netip.Addr{}, fmt.Errorf("container %s is not one of those that are followed", container)
	}
	switch p := known.Load(); {
	case p.err != nil:
		return netip.Addr{}, p.err
	case claim.Is4():
		return p.v4, nil
	default:
		return p.v6, nil
	}
}

// Refresh asks for all containers. It logs what has changed, also that the engine cannot be
// asked, which is the error.
func (e *Engine) Refresh(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(e.containers)) {
		known := e.containers[name]
		p, err := e.api.find(ctx, name)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			e.askFailed(err)
			return err
		}
		p = e.reachable(name, p)
		if old := known.Swap(&p); old.unasked || !old.same(p) {
			e.logPlace(name, p)
		}
	}
	if e.lastError != "" {
		e.log.Info("the Docker engine can be asked again")
		e.lastError = ""
	}
	return nil
}

// askFailed notes that the engine cannot be asked.
func (e *Engine) askFailed(err error) {
	for _, known := range e.containers {
		if known.Load().unasked {
			known.Store(&place{err: err, unasked: true})
		}
	}
	if text := err.Error(); text != e.lastError {
		e.log.Warn("cannot ask where containers are, going by what is known and trying again", slog.Any("error", err))
		e.lastError = text
	}
}

// logPlace says where a container is.
func (e *Engine) logPlace(name string, p place) {
	if p.err != nil {
		e.log.Warn("service's container cannot be reached now", slog.String("container", name), slog.Any("error", p.err))
		return
	}
	var at []any
	if p.v4.IsValid() {
		at = append(at, slog.Any("ipv4", p.v4))
	}
	if p.v6.IsValid() {
		at = append(at, slog.Any("ipv6", p.v6))
	}
	log := e.log.With(slog.String("container", name), slog.Group("at", at...))
	log.Info("service's container is there")
	if p.internal {
		log.Warn("the container's networks are internal: it has no default route, so its replies to peers cannot come back; " +
			"connect it to a network that is not")
	}
}
