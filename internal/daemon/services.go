package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"

	"portredirector/internal/config"
	"portredirector/internal/docker"
	"portredirector/internal/ports"
	"portredirector/internal/route"
	"portredirector/internal/server"
)

// openServices looks up the services, and sets up and proves their return routes.
func (d *serverDaemon) openServices(ctx context.Context) error {
	if !haveIPv6Loopback() {
		d.cfg = withoutIPv6(d.cfg, d.log)
	}
	d.containers = docker.New(d.cfg.DockerSocket, d.cfg.Containers(), d.log)
	d.containers.DialBy(d.broker.Dial)
	d.containers.CheckNetworks(route.OffLink)
	_ = d.containers.Refresh(ctx) // it has logged the error
	d.names = server.NewNames(&d.broker, d.log)
	d.book = server.Book{Names: d.names, Containers: d.containers, Instead: d.containers.Instead}
	if d.cfg.OnLoopback() && d.containers.ProxyHidden(ctx) {
		d.log.Warn("cannot see whether docker-proxy listens for a service on loopback, where it would hide the peers' addresses: " +
			"in a container give --pid=host, or the engine's socket (-v /run/docker.sock:/run/docker.sock:ro, and --group-add)")
	}
	found, err := d.findServices(ctx)
	if err != nil {
		return err
	}
	d.routes.Follow(func() []ports.Endpoint {
		var all []ports.Endpoint
		for _, s := range d.knownServices() {
			all = append(all, s.Port.Protocol.At(d.containers.Instead(s.Endpoint())))
		}
		return all
	})
	return d.proveServices(ctx, found)
}

// knownServices returns the addresses of the services that are known without a lookup.
func (d *serverDaemon) knownServices() []docker.Service {
	var all []docker.Service
	for port, service := range d.cfg.All() {
		for _, a := range d.book.Known(service) {
			all = append(all, docker.Service{Port: port, At: netip.AddrPortFrom(a, service.Port)})
		}
	}
	return all
}

// findServices returns the addresses of the services by the port of their peers. A name or container
// without an address is looked up again for each peer, so it does not stop the start. A service that
// docker-proxy would hide the peers from does.
func (d *serverDaemon) findServices(ctx context.Context) (map[ports.Port][]netip.AddrPort, error) {
	proxies := d.containers.Proxies(ctx)
	found := make(map[ports.Port][]netip.AddrPort)
	for port, service := range d.cfg.All() {
		addrs, err := d.book.Addresses(ctx, service)
		if _, told := service.Container(); err != nil && !told {
			d.log.Warn("service has no address now, trying again at each peer",
				slog.String("port", port.String()), slog.Any("service", service), slog.Any("error", err))
		}
		for _, a := range addrs {
			at := netip.AddrPortFrom(a, service.Port)
			if err := proxies.Check(port, at); err != nil {
				return nil, serviceError(port, err)
			}
			found[port] = append(found[port], at)
		}
	}
	return found, nil
}

// proveServices proves the return route of each address. A named service may go without one of its
// addresses.
func (d *serverDaemon) proveServices(ctx context.Context, found map[ports.Port][]netip.AddrPort) error {
	var all []ports.Endpoint
	for port, addresses := range found {
		for _, at := range addresses {
			all = append(all, port.Protocol.At(at))
		}
	}
	slices.SortFunc(all, ports.Endpoint.Compare)
	_ = d.routes.SetUp(ctx, all...) // together they share rules; Mark below returns each error
	for port, service := range d.cfg.All() {
		for _, at := range found[port] {
			endpoint := port.Protocol.At(at)
			_, err := d.routes.Mark(ctx, endpoint)
			if err == nil {
				err = d.routes.Broken(endpoint)
			}
			if err != nil && service.Named() {
				d.log.Warn("one address of the service cannot be reached",
					slog.String("port", port.String()), slog.Any("service", service), slog.Any("address", at), slog.Any("error", err))
			} else if err != nil {
				return serviceError(port, err)
			}
		}
	}
	return nil
}

// serviceError names the service that an error is about.
func serviceError(port ports.Port, err error) error {
	return &config.ServiceError{Port: port, Err: fmt.Errorf("service on port %s: %w", port, err)}
}

// withoutIPv6 gives services without a host the IPv4 loopback only.
func withoutIPv6(cfg config.Server, log *slog.Logger) config.Server {
	told := false
	for _, of := range []*map[uint16]server.Service{&cfg.Services, &cfg.UDPServices} {
		*of = maps.Clone(*of)
		for port, service := range *of {
			if service.Host != "" {
				continue
			}
			if !told {
				log.Info("this machine has no ::1: services without a host are for IPv4 peers only")
				told = true
			}
			service.Host = "127.0.0.1"
			(*of)[port] = service
		}
	}
	return cfg
}

// haveIPv6Loopback reports whether ::1 can be listened on.
func haveIPv6Loopback() bool {
	l, err := net.ListenTCP("tcp6", &net.TCPAddr{IP: net.IPv6loopback})
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// services lists the services for a log line, as in -p.
func services(cfg config.Server) string {
	var list []string
	for port, service := range cfg.All() {
		list = append(list, fmt.Sprintf("%s=%s", port, service))
	}
	return brief(list)
}
