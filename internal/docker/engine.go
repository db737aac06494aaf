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

	"portredirector/internal/ports"
)

// Engine holds the addresses of some containers. [Engine.Refresh] asks for them, and
// [Engine.Run] keeps them up to date. Known addresses stay in use while the engine is away.
//
// Address, Instead and Unhealthy may be called concurrently with everything. Refresh and
// Run are for one goroutine at a time, and so is Watch.
type Engine struct {
	api        *api
	log        *slog.Logger
	containers map[string]*atomic.Pointer[place]                 // by name; the map stays as it is
	lastError  string                                            // of asking the engine; "" if that worked
	led        atomic.Pointer[map[ports.Endpoint]netip.AddrPort] // services whose peers are led to a container; may be nil
	strange    func(netip.Addr) bool                             // no network of this machine has an address; may be nil
}

// New returns an Engine that has asked nothing yet. Containers are names or ids.
func New(socket string, containers []string, log *slog.Logger) *Engine {
	e := &Engine{api: newAPI(socket), log: log, containers: make(map[string]*atomic.Pointer[place])}
	for _, name := range containers {
		known := new(atomic.Pointer[place])
		known.Store(&place{err: errors.New("the engine was not asked yet"), unasked: true})
		e.containers[name] = known
	}
	return e
}

// DialBy has dial connect to the engine's socket, for a program that may not do so itself.
// Call it before Refresh and Run.
func (e *Engine) DialBy(dial func(ctx context.Context, socket string) (net.Conn, error)) {
	e.api.dial = dial
}

// CheckNetworks has strange report whether an address is in no network of this machine. A
// rootless or remote engine has such containers. Call it before Refresh and Run.
func (e *Engine) CheckNetworks(strange func(netip.Addr) bool) { e.strange = strange }

// Address returns a container's address in the family of claim, or the zero Addr. It fails
// if the container has no address at all. It does not wait.
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

// Refresh asks for the addresses of all containers, and logs the changes. It fails if the
// engine cannot be asked, and logs that once.
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

// askFailed notes that the engine cannot be asked, and logs a new reason.
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

// logPlace logs the addresses of a container.
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
