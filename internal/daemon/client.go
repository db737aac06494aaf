package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"

	"portredirector/internal/accesslog"
	"portredirector/internal/auth"
	"portredirector/internal/broker"
	"portredirector/internal/claim"
	"portredirector/internal/client"
	"portredirector/internal/config"
	"portredirector/internal/dial"
	"portredirector/internal/doctor"
	"portredirector/internal/enroll"
	"portredirector/internal/limit"
	"portredirector/internal/logging"
	"portredirector/internal/relay"
	"portredirector/internal/sandbox"
	"portredirector/internal/upstream"
	"portredirector/internal/wire"
)

// RunClient runs a client until it is shut down or fails.
func RunClient(env Env, cfg config.Client) error {
	d := &clientDaemon{cfg: cfg, env: env, log: clientHints.Logger(env.Log)}
	return clientHints.Add(d.run(env.Shutdown))
}

// clientDaemon holds the parts of a client.
type clientDaemon struct {
	cfg config.Client
	env Env
	log *slog.Logger
	closers

	broker    broker.Broker
	state     *enroll.State // nil without pairing
	tlsDialer *auth.Dialer  // nil if links are plain
	listeners []*net.TCPListener
	incoming  *linkListener // nil if no server dials
	links     *dial.Congestion
	engine    *relay.Engine
	servers   *upstream.Servers
	client    *client.Client
	access    *accesslog.Log // nil without one
	datagrams []*net.UDPConn // of peers
	udpLinks  *udpClient     // nil without UDP ports or keys
	flows     flows          // nil without UDP ports
	operators operators
	bans      *bans
	own       *claim.Own // nil if this machine's addresses cannot be followed

	followServers func(ctx context.Context) // nil without UDP ports

	succeeded context.Context //nolint:containedctx // canceled by succeed, in a worker
	succeed   context.CancelFunc
}

func (d *clientDaemon) run(shutdown Shutdown) (err error) {
	defer func() { err = errors.Join(err, d.close()) }()
	if ok, err := start(shutdown.Drain, d.log, d.steps()); err != nil {
		return d.inviteForAnother(shutdown.Drain, errors.Join(err, d.close()))
	} else if !ok {
		return nil
	}
	if !d.env.awaitServe() {
		return nil
	}
	return runTasks(shutdown, d.log, func() error { return d.ready(shutdown) }, d.tasks(shutdown)...)
}

// steps lists what a client opens, in order.
func (d *clientDaemon) steps() []step {
	return []step{
		{"privileges", func(ctx context.Context) error {
			raiseLimit()
			d.env.logQuick(ctx, d.log, &doctor.Patient{Client: &d.cfg})
			raise(d.log, sandbox.NetBindService)
			return nil
		}},
		{"congestion control", func(context.Context) (err error) {
			d.links, err = dial.NewCongestion(d.cfg.LinkCongestion)
			return err
		}},
		{"credentials", d.openCredentials},
		{"listeners", func(ctx context.Context) (err error) {
			d.listeners, err = d.listen(ctx, d.env, d.cfg.KeepAlive, d.cfg.Listen...)
			return err
		}},
		{"link listener", d.openLinkListener},
		{"relay", func(context.Context) (err error) {
			d.engine, err = d.openRelay(d.cfg.Relay, d.log)
			return err
		}},
		{"bans", func(context.Context) (err error) {
			d.bans, err = d.openBans(d.env, d.cfg.Trust, d.log)
			return err
		}},
		{"client", d.openClient},
		{"datagrams", d.openDatagrams},
		{"access log", func(context.Context) (err error) {
			d.access, err = d.openAccessLog(d.cfg.AccessLog, &d.broker, &d.client.Track)
			return err
		}},
		{"own addresses", func(context.Context) error {
			d.followAddresses()
			return nil
		}},
		{"broker", func(context.Context) error {
			return d.startBroker(&d.broker, broker.Config{Files: rereadFiles(d.cfg.Trust), Logs: logs(d.cfg.AccessLog), Names: !d.cfg.Literal()})
		}},
		{"operators", func(ctx context.Context) (err error) {
			d.operators, err = d.openOperators(ctx, d.env)
			return err
		}},
		{"sandbox", func(context.Context) error {
			files := sandbox.Files{Keep: d.bans.keep()}
			if d.state != nil {
				files.Keep = append(files.Keep, d.state.Dir())
			}
			confine(nil, files, d.log)
			return nil
		}},
		{"congestion control of links", func(context.Context) error {
			var listeners []*net.TCPListener
			if d.incoming != nil {
				listeners = append(listeners, d.incoming.listener)
			}
			return setCongestion(d.links, d.log, listeners...)
		}},
	}
}

func (d *clientDaemon) openCredentials(context.Context) (err error) {
	if d.state, err = openState(d.cfg.Trust, "key", d.cfg.Invite != nil); err != nil {
		return err
	}
	if d.tlsDialer, err = newDialer(d.cfg.Trust, d.broker.ReadFile, d.log); err != nil {
		return err
	}
	return logOwnKey(d.cfg.Trust, d.log)
}

func (d *clientDaemon) openClient(context.Context) error {
	cfg := d.cfg
	var beside func(context.Context, upstream.Dialed)
	if len(cfg.ListenUDP) > 0 && d.tlsDialer != nil {
		d.udpLinks = newUDPClient(d)
		beside = d.udpLinks.dial
	}
	d.servers = upstream.New(upstream.Config{
		Beside:  beside,
		Servers: cfg.Servers, Balance: cfg.Balance, PoolMin: cfg.PoolMin, PoolMax: cfg.PoolMax,
		Answers: cfg.Header == wire.Native, Auth: d.tlsDialer, ConnectTimeout: cfg.ConnectTimeout, KeepAlive: cfg.KeepAlive, Log: d.log,
		Reverse: d.incoming != nil, Heartbeat: cfg.Heartbeat, LinkIdle: cfg.LinkIdle, Congestion: d.links, Resolver: &d.broker,
	})
	d.client = &client.Client{
		Servers:     d.servers,
		Form:        cfg.Header,
		Names:       cfg.Names,
		Relay:       d.engine,
		Log:         d.log,
		OpenTimeout: cfg.ConnectTimeout,
		Bans:        d.bans.list,
		Peers:       limit.Peers[netip.Prefix]{Most: cfg.Peers.Most, MostEach: cfg.Peers.Each, RateEach: cfg.Peers.NewEach},
		Throttle:    logging.Throttle[netip.Prefix]{To: d.log},
	}
	d.bans.links = d.servers.Addrs
	d.bans.list.OnBan(d.client.CutBanned)
	if w := d.env.Worker; w != nil {
		d.client.Pass = w.Pass
		d.succeeded, d.succeed = context.WithCancel(context.Background())
		d.push(d.succeed)
		d.client.Retired = d.succeeded
	}
	return nil
}

// followAddresses drops idle links when their address has left this machine.
func (d *clientDaemon) followAddresses() {
	own, err := claim.OpenOwn(d.log)
	if err != nil {
		d.log.Warn("links from an address that this machine loses may hang", slog.Any("error", err))
		return
	}
	own.OnChange(func() { d.servers.DropForeign(own.Has) })
	d.own = own
	d.push(own.Close)
}

// ready announces the client, and invites a server if asked to.
func (d *clientDaemon) ready(shutdown Shutdown) error {
	defer d.env.serves()
	d.serveAdmin(d.log, d.env, d.operators, d.source(shutdown), d.bans)
	d.push(func() {
		d.client.Throttle.Flush()
		d.log.Info("client has ended", slog.Any("refused", d.client.Peers.Counts()))
	})
	d.log.Info("client is ready", slog.String("listen", brief(d.cfg.All())), slog.String("server", d.cfg.Where()),
		slog.String("header", d.cfg.Header.String()), slog.String("links", d.cfg.Trust.String()))
	if d.cfg.Invite == nil {
		return nil
	}
	return d.invite()
}

// tasks lists what a client does. The first ends last.
func (d *clientDaemon) tasks(shutdown Shutdown) []task {
	tasks := []task{brokerTask(&d.broker, d.log), d.untilSucceeded(background{"links to " + d.cfg.Where(), d.servers.Run})}
	if d.access != nil {
		tasks = append(tasks, accessLogTask(d.access, d.log))
	}
	if d.followServers != nil {
		tasks = append(tasks, inBackground("servers of UDP flows", d.followServers))
	}
	if d.own != nil {
		tasks = append(tasks, inBackground("addresses of this machine", d.own.Run))
	}
	if d.incoming != nil {
		for _, t := range d.incoming.tasks(d.servers) {
			tasks = append(tasks, d.untilSucceeded(t))
		}
	}
	if d.udpLinks != nil {
		retire := d.succeeded
		if retire == nil {
			retire = context.Background()
		}
		tasks = append(tasks, d.udpLinks.task(retire))
	}
	if w := d.env.Worker; w != nil {
		tasks = append(tasks, inBackground("peers of a retired worker", d.takePassed))
	}
	return append(tasks, &relaying{
		engine: d.engine, listeners: d.listeners, handle: d.client.Handle, retire: d.retire, datagrams: d.datagrams, flows: d.flows,
		shutdown: shutdown, drainTimeout: d.cfg.DrainTimeout, log: d.log, ready: make(chan struct{}),
	})
}
