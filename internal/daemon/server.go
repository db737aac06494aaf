package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"

	"portredirector/internal/accesslog"
	"portredirector/internal/auth"
	"portredirector/internal/broker"
	"portredirector/internal/claim"
	"portredirector/internal/config"
	"portredirector/internal/dial"
	"portredirector/internal/docker"
	"portredirector/internal/doctor"
	"portredirector/internal/relay"
	"portredirector/internal/reverse"
	"portredirector/internal/route"
	"portredirector/internal/sandbox"
	"portredirector/internal/server"
	"portredirector/internal/socket"
)

// RunServer runs a server until it is shut down or fails. The return routes are proved before it
// accepts the first link, and removed after the last peer.
func RunServer(env Env, cfg config.Server) error {
	d := &serverDaemon{cfg: cfg, env: env, log: serverHints.Logger(env.Log)}
	return serverHints.Add(d.run(env.Shutdown))
}

// serverDaemon holds the parts of a server.
type serverDaemon struct {
	cfg config.Server
	env Env
	log *slog.Logger
	closers

	broker     broker.Broker
	acceptor   *auth.Acceptor // nil if links are plain
	clients    *clients       // nil without keys
	listeners  []*net.TCPListener
	routes     *route.Manager
	containers *docker.Engine
	names      *server.Names
	book       server.Book
	own        *claim.Own
	engine     *relay.Engine
	dialer     *socket.TransparentDialer
	server     *server.Server
	callers    *reverse.Dialer
	tried      chan struct{} // has an element for each client that was dialed
	links      *dial.Congestion
	datagrams  []*net.UDPConn // of links without keys
	udpLinks   *udpServer     // nil without UDP services or keys
	flows      flows          // nil without UDP services
	access     *accesslog.Log // nil without one
	operators  operators
	bans       *bans
}

// serverCapabilities lists what a server keeps.
var serverCapabilities = []sandbox.Capability{sandbox.NetAdmin, sandbox.NetBindService}

func (d *serverDaemon) run(shutdown Shutdown) (err error) {
	defer func() { err = errors.Join(err, d.close()) }()
	if ok, err := start(shutdown.Drain, d.log, d.steps()); !ok {
		return err
	}
	if !d.env.awaitServe() {
		return nil
	}
	return runTasks(shutdown, d.log, func() error { return d.ready(shutdown) }, d.tasks(shutdown)...)
}

// steps lists what a server opens, in order.
func (d *serverDaemon) steps() []step {
	return []step{
		{"privileges", func(ctx context.Context) error {
			raiseLimit()
			d.env.logQuick(ctx, d.log, &doctor.Patient{Server: &d.cfg})
			raise(d.log, serverCapabilities...)
			return nil
		}},
		{"congestion control", func(context.Context) (err error) {
			d.links, err = dial.NewCongestion(d.cfg.LinkCongestion)
			return err
		}},
		{"join", d.join},
		{"credentials", d.openCredentials},
		{"listener", d.openListener},
		{"return routes", d.openRoutes},
		{"services", d.openServices},
		{"own addresses", func(context.Context) (err error) {
			if d.own, err = claim.OpenOwn(d.log); err == nil {
				d.push(d.own.Close)
			}
			return err
		}},
		{"relay", func(context.Context) (err error) {
			d.engine, err = d.openRelay(d.cfg.Relay, d.log)
			return err
		}},
		{"bans", func(context.Context) (err error) {
			d.bans, err = d.openBans(d.env, d.cfg.Trust, d.log)
			return err
		}},
		{"server", d.openServer},
		{"datagrams", d.openDatagrams},
		{"access log", func(context.Context) (err error) {
			d.access, err = d.openAccessLog(d.cfg.AccessLog, &d.broker, &d.server.Track)
			return err
		}},
		{"callers", d.openCallers},
		{"broker", func(context.Context) error {
			cfg := broker.Config{Files: rereadFiles(d.cfg.Trust), Logs: logs(d.cfg.AccessLog), Names: !d.cfg.Literal()}
			if cfg.Needed() || len(d.cfg.Containers()) > 0 {
				cfg.Sockets = []string{d.cfg.DockerSocket} // without containers it tells what is published
			}
			return d.startBroker(&d.broker, cfg)
		}},
		{"operators", func(ctx context.Context) (err error) {
			d.operators, err = d.openOperators(ctx, d.env)
			return err
		}},
		{"sandbox", func(context.Context) error {
			// docker.Engine.Watch looks for docker-proxy among the processes. Landlock still
			// keeps their memory and environment out of reach.
			files := sandbox.Files{Read: []string{"/proc"}, Keep: d.bans.keep()}
			if d.cfg.Trust.State != "" {
				files.Read = append(files.Read, d.cfg.Trust.State)
			}
			confine(serverCapabilities, files, d.log)
			return nil
		}},
		{"congestion control of links", func(context.Context) error {
			return setCongestion(d.links, d.log, d.listeners...)
		}},
	}
}

// ready announces the server.
func (d *serverDaemon) ready(shutdown Shutdown) error {
	defer d.env.serves()
	defer d.awaitClients(shutdown)
	switch {
	case d.cfg.Open():
		d.log.Warn("anybody who can reach this port can pretend to be any peer: " +
			"give --allow with the addresses of your clients, or keys (--key, --client-key)")
	case len(d.datagrams) > 0:
		d.log.Warn("anybody who can forge an address of --allow can pretend to be any peer of UDP ports: give keys (--key, --client-key)")
	}
	d.serveAdmin(d.log, d.env, d.operators, d.source(shutdown), d.bans)
	d.push(func() {
		d.server.Tell.Flush()
		n := d.dialer.Counts()
		d.log.Info("server has ended", slog.Uint64("dials", n.Exact+n.AnyPort),
			slog.Uint64("with_another_port", n.AnyPort), slog.Uint64("collisions_refused", n.Refused), slog.Any("refused", d.server.Refused()))
	})
	d.log.Info("server is ready", slog.String("listen", d.cfg.Where()), slog.String("services", services(d.cfg)),
		slog.String("links", d.cfg.Trust.String()))
	return nil
}

// tasks lists what a server does. The first ends last: return routes outlive the peers.
func (d *serverDaemon) tasks(shutdown Shutdown) []task {
	tasks := []task{
		brokerTask(&d.broker, d.log),
		background{"return routes", d.routes.Run},
		inBackground("published ports", func(ctx context.Context) { d.containers.Watch(ctx, d.knownServices, d.routes.Hide) }),
		inBackground("addresses of this machine", d.own.Run),
		inBackground("names of services", d.names.Run),
	}
	if names := d.cfg.Containers(); len(names) > 0 {
		tasks = append(tasks, inBackground("containers "+brief(names), d.containers.Run))
	}
	if d.access != nil {
		tasks = append(tasks, accessLogTask(d.access, d.log))
	}
	if d.clients != nil {
		tasks = append(tasks, inBackground("file of clients", d.clients.Run))
	}
	tasks = append(tasks, &relaying{
		engine: d.engine, listeners: d.listeners, handle: d.server.Handle, datagrams: d.datagrams, flows: d.flows,
		shutdown: shutdown, drainTimeout: d.cfg.DrainTimeout, log: d.log, ready: make(chan struct{}),
	})
	if d.udpLinks != nil {
		tasks = append(tasks, d.udpLinks.task(shutdown.Retire))
	}
	if len(d.cfg.Clients) > 0 {
		tasks = append(tasks, &early{inBackground("links to clients at "+brief(d.cfg.Clients), d.callers.Run), shutdown.Retire})
	}
	return tasks
}
