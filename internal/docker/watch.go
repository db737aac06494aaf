package docker

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"portredirector/internal/ports"
)

const (
	// watchEvery is the interval between looks at the listening sockets, whose
	// coming the kernel does not announce.
	watchEvery = 500 * time.Millisecond
	// looksAfter is the number of looks at the processes after a change: the
	// engine listens before docker-proxy is there.
	looksAfter = 4
	// looksBlind is the number of looks at the sockets for one at the processes
	// where the kernel does not list sockets.
	looksBlind = 20
)

// Service is one that docker-proxy may come to hide.
type Service struct {
	Port ports.Port     // for peers
	At   netip.AddrPort // the address to dial
}

// Endpoint returns the address and protocol to dial.
func (s Service) Endpoint() ports.Endpoint { return s.Port.Protocol.At(s.At) }

// Watch looks whether docker-proxy comes to listen in front of one of the
// services, or goes, until ctx is canceled. Peers of such a service are led to
// the container: see Instead. Where that cannot be, hide is called with the
// error that refuses them. It is called again whenever that changes.
func (e *Engine) Watch(ctx context.Context, services func() []Service, hide func(map[ports.Endpoint]error)) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	w := watch{proxies: e.Proxies, listeners: listeners, lead: e.lead, hide: hide}
	for {
		w.look(ctx, services())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Instead returns the address of the container if docker-proxy listens on the
// service's address. Otherwise it returns the service's address. It does not block.
func (e *Engine) Instead(service ports.Endpoint) netip.AddrPort {
	if led := e.led.Load(); led != nil {
		if container, ok := (*led)[service]; ok {
			return container
		}
	}
	return service.AddrPort
}

// lead sets the services that are led to a container, and logs the changes.
func (e *Engine) lead(led map[ports.Endpoint]Proxy) {
	now := make(map[ports.Endpoint]netip.AddrPort)
	for service, p := range led {
		now[service] = p.Container
		if e.Instead(service) != p.Container {
			e.log.Warn("docker-proxy has come to listen where the service is dialed, peers are led to its container from now on",
				slog.String("service", service.String()), slog.String("container", p.Container.String()), slog.String("name", p.Name))
		}
	}
	if before := e.led.Load(); before != nil {
		for service := range *before {
			if _, ok := now[service]; !ok {
				e.log.Info("docker-proxy is gone, peers are led to the service again", slog.String("service", service.String()))
			}
		}
	}
	e.led.Store(nil)
	if len(now) > 0 {
		e.led.Store(&now)
	}
}

// watch is the state of Watch between two looks.
type watch struct {
	proxies   func(context.Context) Proxies
	listeners func(map[ports.Port]bool) ([]listener, error)
	lead      func(map[ports.Endpoint]Proxy)
	hide      func(map[ports.Endpoint]error)

	last   []listener
	looks  int // at the processes, that are still due
	blind  int // looks at the sockets that failed
	hidden int // services that were hidden at the last look
}

// look looks at the sockets, and at the processes if the sockets have changed.
func (w *watch) look(ctx context.Context, services []Service) {
	some := make(map[ports.Port]bool)
	for _, s := range services {
		some[ports.Port{Protocol: s.Port.Protocol, Number: s.At.Port()}] = true
	}
	switch now, err := w.listeners(some); {
	case err != nil:
		if w.blind++; w.blind%looksBlind == 0 {
			w.looks = 1
		}
	case !slices.Equal(now, w.last):
		w.last, w.looks = now, looksAfter
	}
	if w.looks == 0 {
		return
	}
	w.looks--
	proxies := w.proxies(ctx)
	if ctx.Err() != nil {
		return
	}
	led, hidden := make(map[ports.Endpoint]Proxy), make(map[ports.Endpoint]error)
	for _, s := range services {
		at := s.Endpoint()
		if p, ok := proxies.before(at); ok && p.leads(s.At) {
			led[at] = p
		} else if ok {
			hidden[at] = proxies.Check(s.Port, s.At)
		}
	}
	w.lead(led)
	if len(hidden) > 0 || w.hidden > 0 {
		w.hide(hidden)
	}
	w.hidden = len(hidden)
}
