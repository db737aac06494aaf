package daemon

import (
	"log/slog"

	"portredirector/internal/client"
	"portredirector/internal/config"
	"portredirector/internal/header"
	"portredirector/internal/link"
)

// RunClient runs a client to the end of its life.
func RunClient(life Life, cfg config.Client, log *slog.Logger) error {
	raiseLimit()
	listeners, err := listen(life.Drain, cfg.KeepAlive, cfg.Listen...)
	if err != nil {
		return err
	}
	engine, err := newEngine(cfg.Relay, log)
	if err != nil {
		closeAll(listeners)
		return err
	}
	links := link.New(link.Config{
		Servers: cfg.Servers, Balance: cfg.Balance, PoolMin: cfg.PoolMin, PoolMax: cfg.PoolMax,
		Answers: cfg.Header == header.Native, ConnectTimeout: cfg.ConnectTimeout, KeepAlive: cfg.KeepAlive, Log: log,
	})
	c := &client.Client{
		Links:       links,
		Form:        cfg.Header,
		Relay:       engine,
		Log:         log,
		OpenTimeout: cfg.ConnectTimeout,
	}
	s := &service{
		handle:       c.Handle,
		relay:        engine,
		drainTimeout: cfg.DrainTimeout,
		log:          log,
	}
	log.Info("client is ready", slog.String("listen", brief(cfg.Listen)), slog.String("server", brief(cfg.Servers)),
		slog.String("header", cfg.Header.String()))
	defer log.Info("client has ended")
	return s.run(life, listeners, links.Run)
}
