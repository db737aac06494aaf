package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"

	"golang.org/x/sync/errgroup"

	"portredirector/internal/client"
	"portredirector/internal/config"
	"portredirector/internal/limit"
	"portredirector/internal/logging"
	"portredirector/internal/sandbox"
	"portredirector/internal/upstream"
	"portredirector/internal/wire"
)

// RunClient runs a client to the end of its life. An invitation is said by say.
func RunClient(life Life, cfg config.Client, log *slog.Logger, say func(line string)) error {
	raiseLimit()
	raise(log, sandbox.NetBindService)
	state, err := openState(cfg.Trust, "key", cfg.Invite != nil)
	if err != nil {
		return err
	}
	sure, err := dialer(cfg.Trust, log)
	if err != nil {
		return err
	}
	if err := tell(cfg.Trust, log); err != nil {
		return err
	}
	listeners, err := listen(life.Drain, cfg.KeepAlive, cfg.Listen...)
	if err != nil {
		return inviteForAnother(life.Drain, cfg, state, log, say, err)
	}
	gate, err := openGate(life.Drain, cfg, state, log)
	if err != nil {
		closeAll(listeners)
		return inviteForAnother(life.Drain, cfg, state, log, say, err)
	}
	engine, err := newEngine(cfg.Relay, log)
	if err != nil {
		closeAll(listeners)
		gate.close()
		return err
	}
	servers := upstream.New(upstream.Config{
		Servers: cfg.Servers, Balance: cfg.Balance, PoolMin: cfg.PoolMin, PoolMax: cfg.PoolMax,
		Answers: cfg.Header == wire.Native, Auth: sure, ConnectTimeout: cfg.ConnectTimeout, KeepAlive: cfg.KeepAlive, Log: log,
		Reverse: gate != nil, Heartbeat: cfg.Heartbeat,
	})
	c := &client.Client{
		Servers:     servers,
		Form:        cfg.Header,
		Relay:       engine,
		Log:         log,
		OpenTimeout: cfg.ConnectTimeout,
		Peers:       limit.Peers[netip.Prefix]{Most: cfg.Peers.Most, MostEach: cfg.Peers.Each, RateEach: cfg.Peers.NewEach},
		Tell:        logging.Throttle[netip.Prefix]{To: log},
	}
	files := sandbox.Files{Read: readAgain(!cfg.Literal(), cfg.Trust)}
	if state != nil {
		files.Keep = []string{state.Dir()}
	}
	giveUp(nil, files, log)
	s := &service{
		handle:       c.Handle,
		relay:        engine,
		drainTimeout: cfg.DrainTimeout,
		log:          log,
	}
	defer tellHealth(life, log, engine.Accepting, servers.Unhealthy)()
	log.Info("client is ready", slog.String("listen", brief(cfg.Listen)), slog.String("server", cfg.Where()),
		slog.String("header", cfg.Header.String()), slog.String("links", cfg.Trust.String()))
	if cfg.Invite != nil {
		if err := invite(cfg, state, log, say); err != nil {
			closeAll(listeners)
			gate.close()
			return errors.Join(err, engine.Shutdown(life.Cut))
		}
	}
	defer func() {
		c.Tell.Flush()
		log.Info("client has ended", slog.Any("refused", c.Peers.Counts()))
	}()
	return s.run(life, listeners, func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return servers.Run(ctx) })
		g.Go(func() error { return gate.serve(ctx, servers) })
		return g.Wait()
	})
}
