package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"

	"portredirector/internal/auth"
	"portredirector/internal/client"
	"portredirector/internal/config"
	"portredirector/internal/enroll"
	"portredirector/internal/limit"
	"portredirector/internal/link"
	"portredirector/internal/logging"
	"portredirector/internal/relay"
	"portredirector/internal/sandbox"
	"portredirector/internal/wire"
)

// RunClient runs a client until it is shut down or fails. It passes an invitation to say.
func RunClient(shutdown Shutdown, cfg config.Client, log *slog.Logger, say func(line string)) error {
	d := &clientDaemon{cfg: cfg, log: clientHints.logger(log), say: say}
	return clientHints.add(d.run(shutdown))
}

// clientDaemon holds the parts of a client.
type clientDaemon struct {
	cfg config.Client
	log *slog.Logger
	say func(line string)
	closers

	state     *enroll.State // nil without pairing
	tlsDialer *auth.Dialer  // nil if links are plain
	listeners []*net.TCPListener
	servers   *linkListener // nil if no server dials
	engine    *relay.Engine
	links     *link.Links
	client    *client.Client
}

func (d *clientDaemon) run(shutdown Shutdown) (err error) {
	defer func() { err = errors.Join(err, d.close()) }()
	if ok, err := start(shutdown.Drain, d.steps()); err != nil {
		return d.inviteForAnother(shutdown.Drain, err)
	} else if !ok {
		return nil
	}
	return runTasks(shutdown.Drain, d.log, func() error { return d.ready(shutdown.Drain) }, d.tasks(shutdown)...)
}

// steps lists what a client opens, in order.
func (d *clientDaemon) steps() []step {
	return []step{
		{"privileges", func(context.Context) error {
			raiseLimit()
			raise(d.log, sandbox.NetBindService)
			return nil
		}},
		{"credentials", d.openCredentials},
		{"listeners", func(ctx context.Context) (err error) {
			d.listeners, err = d.listen(ctx, d.cfg.KeepAlive, d.cfg.Listen...)
			return err
		}},
		{"link listener", d.openLinkListener},
		{"relay", func(context.Context) (err error) {
			d.engine, err = d.openRelay(d.cfg.Relay, d.log)
			return err
		}},
		{"client", d.openClient},
		{"sandbox", func(context.Context) error {
			files := sandbox.Files{Read: rereadDirs(!d.cfg.Literal(), d.cfg.Trust)}
			if d.state != nil {
				files.Keep = []string{d.state.Dir()}
			}
			confine(nil, files, d.log)
			return nil
		}},
	}
}

func (d *clientDaemon) openCredentials(context.Context) (err error) {
	if d.state, err = openState(d.cfg.Trust, "key", d.cfg.Invite != nil); err != nil {
		return err
	}
	if d.tlsDialer, err = newDialer(d.cfg.Trust, d.log); err != nil {
		return err
	}
	return logOwnKey(d.cfg.Trust, d.log)
}

func (d *clientDaemon) openClient(context.Context) error {
	cfg := d.cfg
	d.links = link.New(link.Config{
		Servers: cfg.Servers, Balance: cfg.Balance, PoolMin: cfg.PoolMin, PoolMax: cfg.PoolMax,
		Answers: cfg.Header == wire.Native, Secure: d.tlsDialer, ConnectTimeout: cfg.ConnectTimeout, KeepAlive: cfg.KeepAlive, Log: d.log,
		Joined: d.servers != nil, Heartbeat: cfg.Heartbeat,
	})
	d.client = &client.Client{
		Links:       d.links,
		Form:        cfg.Header,
		Relay:       d.engine,
		Log:         d.log,
		OpenTimeout: cfg.ConnectTimeout,
		Peers:       limit.Peers[netip.Prefix]{Most: cfg.Peers.Most, MostEach: cfg.Peers.Each, RateEach: cfg.Peers.NewEach},
		Tell:        logging.Throttle[netip.Prefix]{To: d.log},
	}
	return nil
}

// ready announces the client, and invites a server if asked to.
func (d *clientDaemon) ready(drain context.Context) error {
	d.serveHealth(drain, d.log, d.engine.Accepting, d.links.Ailing)
	d.push(func() {
		d.client.Tell.Flush()
		d.log.Info("client has ended", slog.Any("refused", d.client.Peers.Counts()))
	})
	d.log.Info("client is ready", slog.String("listen", brief(d.cfg.Listen)), slog.String("server", d.cfg.Where()),
		slog.String("header", d.cfg.Header.String()), slog.String("links", d.cfg.Trust.String()))
	if d.cfg.Invite == nil {
		return nil
	}
	return d.invite()
}

// tasks lists what a client does. The first ends last.
func (d *clientDaemon) tasks(shutdown Shutdown) []task {
	tasks := []task{background{"links to " + d.cfg.Where(), d.links.Run}}
	if d.servers != nil {
		tasks = append(tasks, d.servers.tasks(d.links)...)
	}
	return append(tasks, &relaying{
		engine: d.engine, listeners: d.listeners, handle: d.client.Handle,
		cut: shutdown.Cut, drainTimeout: d.cfg.DrainTimeout, log: d.log, ready: make(chan struct{}),
	})
}
