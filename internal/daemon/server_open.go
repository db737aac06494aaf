package daemon

import (
	"context"
	"fmt"

	"portredirector/internal/auth"
	"portredirector/internal/claim"
	"portredirector/internal/limit"
	"portredirector/internal/logging"
	"portredirector/internal/reverse"
	"portredirector/internal/route"
	"portredirector/internal/server"
	"portredirector/internal/socket"
)

func (d *serverDaemon) openCredentials(context.Context) (err error) {
	if d.acceptor, d.clients, err = newAcceptor(d.cfg.Trust, d.broker.ReadFile, d.log); err != nil {
		return err
	}
	return logOwnKey(d.cfg.Trust, d.log)
}

func (d *serverDaemon) openListener(ctx context.Context) (err error) {
	if d.cfg.Listen != "" {
		d.listeners, err = d.listen(ctx, d.env, d.cfg.KeepAlive, d.cfg.Listen)
	}
	return err
}

func (d *serverDaemon) openRoutes(ctx context.Context) (err error) {
	if d.routes, err = route.Open(ctx, route.Config{Mark: d.cfg.Mark, Table: d.cfg.Table, UDPTimeout: d.cfg.UDPTimeout}, d.log); err != nil {
		return fmt.Errorf("set up return routes: %w", err)
	}
	d.pushErr(func() error {
		if err := d.routes.Close(); err != nil {
			return fmt.Errorf("remove return routes: %w", err)
		}
		return nil
	})
	return nil
}

func (d *serverDaemon) openServer(context.Context) error {
	cfg := d.cfg
	d.dialer = socket.NewTransparentDialer() // the relay sets it
	d.server = &server.Server{
		Services: cfg.Services,
		Book:     d.book,
		Dialer:   d.dialer,
		Relay:    d.engine,
		Log:      d.log,
		Routes:   d.routes,

		KeepAlive:      cfg.KeepAlive,
		LinkIdle:       cfg.LinkIdle,
		HeaderTimeout:  cfg.HeaderTimeout,
		ConnectTimeout: cfg.ConnectTimeout,

		Allow: cfg.Allow, Secure: d.acceptor,
		Claims: &claim.Policy{Allow: cfg.AllowClaim, Deny: cfg.DenyClaim, Own: d.own},

		Bans: d.bans.list,

		Unfinished: oldest[server.Origin](cfg.Unfinished),
		Handshakes: oldest[server.Origin](cfg.Handshakes),
		Known:      oldest[server.Origin](cfg.Unfinished),
		Leaving:    oldest[server.Origin](cfg.Unfinished),
		Try:        d.try,
		Peers:      limit.Peers[server.Origin]{Most: cfg.Peers.Most, MostEach: cfg.Peers.Each},
		Tell:       logging.Throttle[server.Subject]{To: d.log},
	}
	d.bans.links = d.server.ClientAddrs
	d.bans.list.OnBan(d.server.CutBanned)
	if d.clients != nil {
		d.server.Clients = d.clients.Get
		warnOfUnusedPorts(cfg, d.clients.Get(), d.log)
	}
	return nil
}

// openCallers prepares to dial the clients that cannot reach this server.
func (d *serverDaemon) openCallers(context.Context) error {
	d.callers = &reverse.Dialer{
		Clients: d.cfg.Clients, Take: d.server.Take,
		ConnectTimeout: d.cfg.ConnectTimeout, Heartbeat: d.cfg.Heartbeat, Log: d.log, Resolver: &d.broker,
		Congestion: d.links, Tried: func() { d.tried <- struct{}{} },
	}
	d.tried = make(chan struct{}, len(d.cfg.Clients))
	if len(d.cfg.Clients) == 0 {
		return nil
	}
	own, err := ownKey(d.cfg.Trust)
	if err != nil {
		return err
	}
	known := func(k auth.PublicKey) bool { return d.clients.Get()[k] != nil }
	if d.callers.Auth, err = auth.DialClients(own, known, d.cfg.Trust.AuthOnly); err != nil || d.udpLinks == nil {
		return err
	}
	d.tried = make(chan struct{}, 2*len(d.cfg.Clients))
	return d.udpLinks.dialClients(d)
}
