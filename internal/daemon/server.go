package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"

	"portredirector/internal/auth"
	"portredirector/internal/claim"
	"portredirector/internal/config"
	"portredirector/internal/docker"
	"portredirector/internal/limit"
	"portredirector/internal/logging"
	"portredirector/internal/reverse"
	"portredirector/internal/route"
	"portredirector/internal/sandbox"
	"portredirector/internal/server"
	"portredirector/internal/socket"
)

// RunServer runs a server to the end of its life. The return routes are up
// and proved before it accepts the first link, and go after the last peer.
func RunServer(life Life, cfg config.Server, log *slog.Logger) (err error) {
	raiseLimit()
	needs := []sandbox.Capability{sandbox.NetAdmin, sandbox.NetBindService}
	raise(log, needs...)
	if cfg.Join != nil {
		if err := join(life.Drain, cfg, log); err != nil {
			return err
		}
	}
	sure, clients, err := acceptor(cfg.Trust, log)
	if err != nil {
		return err
	}
	if err := tell(cfg.Trust, log); err != nil {
		return err
	}
	var listeners []*net.TCPListener
	if cfg.Listen != "" {
		if listeners, err = listen(life.Drain, cfg.KeepAlive, cfg.Listen); err != nil {
			return err
		}
	}
	routes, err := route.Open(life.Drain, route.Config{Mark: cfg.Mark, Table: cfg.Table}, log)
	if err != nil {
		closeAll(listeners)
		return fmt.Errorf("set up return routes: %w", err)
	}
	defer func() {
		if cerr := routes.Close(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("remove return routes: %w", cerr))
		}
	}()
	if !haveIPv6Loopback() {
		cfg = withoutIPv6(cfg, log)
	}
	containers := docker.New(cfg.DockerSocket, cfg.Containers(), log)
	_ = containers.Look(life.Drain) // it has logged why not
	book := server.Book{Names: net.DefaultResolver, Containers: containers}
	if cfg.OnLoopback() && containers.Blind(life.Drain) {
		log.Warn("cannot see whether docker-proxy listens for a service on loopback, where it would hide the peers' addresses: " +
			"in a container give --pid=host, or the engine's socket (-v /run/docker.sock:/run/docker.sock:ro, and --group-add)")
	}
	if err := prepareRoutes(life.Drain, cfg, book, containers.Proxies(life.Drain), routes, log); err != nil {
		closeAll(listeners)
		if life.Drain.Err() != nil {
			return nil // it was told to end before it was ready
		}
		return err
	}

	own, err := claim.OpenOwn(log)
	if err != nil {
		closeAll(listeners)
		return err
	}
	defer own.Close()
	engine, err := newEngine(cfg.Relay, log)
	if err != nil {
		closeAll(listeners)
		return err
	}
	dialer := &socket.TransparentDialer{KeepAlive: cfg.KeepAlive}
	s := &server.Server{
		Services: cfg.Services,
		Book:     book,
		Dialer:   dialer,
		Relay:    engine,
		Log:      log,
		Routes:   routes,

		KeepAlive:      cfg.KeepAlive,
		HeaderTimeout:  cfg.HeaderTimeout,
		ConnectTimeout: cfg.ConnectTimeout,

		Allow: cfg.Allow, Secure: sure,
		Claims: &claim.Policy{Allow: cfg.AllowClaim, Deny: cfg.DenyClaim, Own: own},

		Unfinished: oldest(cfg.Unfinished),
		Handshakes: oldest(cfg.Handshakes),
		Known:      oldest(cfg.Unfinished),
		Farewells:  oldest(cfg.Unfinished),
		Peers:      limit.Peers[server.Origin]{Most: cfg.Peers.Most, MostEach: cfg.Peers.Each},
		Tell:       logging.Throttle[server.Subject]{To: log},
	}
	if clients != nil {
		s.Clients = clients.Get
	}
	if s.Clients != nil {
		tellRefused(cfg, s.Clients(), log)
	}
	callers, err := newCallers(cfg, s, log)
	if err != nil {
		closeAll(listeners)
		return err
	}
	giveUp(needs, sandbox.Files{Read: readAgain(!cfg.Literal(), cfg.Trust), Connect: socketDirs(cfg)}, log)
	if cfg.Open() {
		log.Warn("anybody who can reach this port can pretend to be any peer: " +
			"give --allow with the addresses of your clients, or keys (--key, --client-key)")
	}
	ails := []func() error{engine.Accepting, routes.Ailing}
	if len(listeners) == 0 {
		ails = append(ails, callers.Unhealthy)
	}
	defer tellHealth(life, log, ails...)()
	log.Info("server is ready", slog.String("listen", cfg.Where()), slog.String("services", services(cfg)),
		slog.String("links", cfg.Trust.String()))
	defer func() {
		s.Tell.Flush()
		n := dialer.Counts()
		log.Info("server has ended", slog.Uint64("dials", n.Exact+n.AnyPort),
			slog.Uint64("with_another_port", n.AnyPort), slog.Uint64("collisions_refused", n.Refused), slog.Any("refused", s.Refused()))
	}()
	run := &service{handle: s.Handle, relay: engine, drainTimeout: cfg.DrainTimeout, log: log}
	return run.run(life, listeners, func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		calling, hangUp := context.WithCancel(life.Drain)
		var following sync.WaitGroup
		following.Go(func() { own.Run(ctx) })
		following.Go(func() { containers.Run(ctx) })
		if clients != nil {
			following.Go(func() { clients.Run(ctx) })
		}
		following.Go(func() { callers.Run(calling) })
		defer following.Wait()
		defer hangUp() // it may be the return routes that fail, without a drain
		defer cancel()
		return routes.Run(ctx)
	})
}

// newCallers are what dials the clients that do not dial this server.
func newCallers(cfg config.Server, s *server.Server, log *slog.Logger) (*reverse.Dialer, error) {
	c := &reverse.Dialer{
		Clients: cfg.Clients, Take: s.Take,
		ConnectTimeout: cfg.ConnectTimeout, Heartbeat: cfg.Heartbeat, Log: log,
	}
	if len(cfg.Clients) == 0 {
		return c, nil
	}
	own, err := ownKey(cfg.Trust)
	if err != nil {
		return nil, err
	}
	known := func(k auth.PublicKey) bool { return s.Clients()[k] != nil }
	c.Auth, err = auth.DialClients(own, known, cfg.Trust.AuthOnly)
	return c, err
}

// oldest bounds things that wait, to fewer where descriptors are scarce.
func oldest(b config.Bounds) limit.Oldest[server.Origin] {
	return limit.Oldest[server.Origin]{Most: scarce(b.Most, 4), MostEach: scarce(b.Each, 8)}
}

// scarce is a bound, or a share of the descriptors if that is less; 0 is none.
func scarce(most, share int) int {
	if most == 0 {
		return 0
	}
	return min(most, descriptors()/share)
}

// prepareRoutes sets up and proves what the services need. The address of a name
// or a container is looked up at each dial, so that neither one that has none now
// nor one of which some address cannot be reached is a reason not to start. One
// that docker-proxy would hide the peers from is.
func prepareRoutes(ctx context.Context, cfg config.Server, book server.Book, proxies docker.Proxies,
	routes *route.Manager, log *slog.Logger,
) error {
	ports := slices.Sorted(maps.Keys(cfg.Services))
	where := make(map[uint16][]netip.AddrPort) // by the port of peers
	var all []netip.AddrPort
	for _, port := range ports {
		service := cfg.Services[port]
		addrs, err := book.Addresses(ctx, service)
		if _, told := service.Container(); err != nil && !told {
			log.Warn("service has no address now, trying again at each peer",
				slog.Int("port", int(port)), slog.Any("service", service), slog.Any("error", err))
		}
		for _, a := range addrs {
			at := netip.AddrPortFrom(a, service.Port)
			if err := proxies.Check(port, at); err != nil {
				return fmt.Errorf("service on port %d: %w", port, err)
			}
			where[port] = append(where[port], at)
		}
		all = append(all, where[port]...)
	}
	_ = routes.SetUp(ctx, all...) // what fails is asked for once more, below
	for _, port := range ports {
		for _, at := range where[port] {
			_, err := routes.Mark(ctx, at)
			if err != nil && cfg.Services[port].Named() {
				log.Warn("one address of the service cannot be reached",
					slog.Int("port", int(port)), slog.Any("service", cfg.Services[port]), slog.Any("address", at), slog.Any("error", err))
			} else if err != nil {
				return fmt.Errorf("service on port %d: %w", port, err)
			}
		}
	}
	return nil
}

// withoutIPv6 gives services that have no host the IPv4 loopback only, on a
// machine that has no ::1.
func withoutIPv6(cfg config.Server, log *slog.Logger) config.Server {
	services := maps.Clone(cfg.Services)
	told := false
	for port, service := range services {
		if service.Host != "" {
			continue
		}
		if !told {
			log.Info("this machine has no ::1: services without a host are for IPv4 peers only")
			told = true
		}
		services[port] = server.Service{Host: "127.0.0.1", Port: service.Port}
	}
	cfg.Services = services
	return cfg
}

// haveIPv6Loopback reports whether ::1 is there to be listened on.
func haveIPv6Loopback() bool {
	l, err := net.ListenTCP("tcp6", &net.TCPAddr{IP: net.IPv6loopback})
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// services lists them for a log line, as in -p.
func services(cfg config.Server) string {
	var list []string
	for _, port := range slices.Sorted(maps.Keys(cfg.Services)) {
		list = append(list, fmt.Sprintf("%d=%s", port, cfg.Services[port]))
	}
	return brief(list)
}
