package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"

	"portredirector/internal/admin"
	"portredirector/internal/relay"
)

var errDraining = errors.New("it drains")

// operators holds what must be opened for operators before the sandbox closes.
type operators struct {
	self     *admin.Self      // nil costs some metrics
	listener *net.TCPListener // of --admin; nil is none
}

// openOperators opens what operators need, and pushes its closers.
func (c *closers) openOperators(ctx context.Context, env Env) (o operators, err error) {
	if self, err := admin.OpenSelf(); err == nil {
		c.pushErr(self.Close)
		o.self = self
	}
	address, err := env.Admin.Listen()
	if err != nil || address == "" {
		return o, err
	}
	if o.listener, err = Listen(ctx, net.KeepAliveConfig{}, address); err != nil {
		return o, env.Admin.Located(err)
	}
	c.push(func() { _ = o.listener.Close() })
	return o, nil
}

// serveAdmin answers operators and pushes its closer. A failure is logged and does not stop the
// daemon.
func (c *closers) serveAdmin(log *slog.Logger, env Env, o operators, s admin.Source, b *bans) {
	s.Bans = b.list
	p := admin.Process{
		Health:  s.Health,
		Metrics: func() (prometheus.Gatherer, error) { return s.Gatherer() },
		API:     admin.Own(s),
		Bans:    b,
	}
	if o.listener != nil {
		c.push(admin.ServeTCP(o.listener, env.Admin.Names(), p).Close)
		log.Info("answering operators", slog.String("admin", o.listener.Addr().String()))
	}
	server, err := admin.Serve(p)
	if err != nil {
		log.Warn("`portredirector health` and `status` will not find this process", slog.Any("error", err))
		return
	}
	c.push(server.Close)
}

// health returns what tells the health of a daemon. It is healthy if it does not drain and no
// check returns an error. One that has retired is healthy, too: nobody counts on it.
func health(shutdown Shutdown, engine *relay.Engine, checks ...func() error) func() (note string, err error) {
	return func() (note string, err error) {
		switch {
		case shutdown.Drain.Err() != nil:
			return "", errDraining
		case shutdown.Retire.Err() != nil:
			return fmt.Sprintf("an old worker, which a reload has replaced: %d peers", engine.Len()), nil
		}
		for _, check := range checks {
			if err := check(); err != nil {
				return "", err
			}
		}
		return "", nil
	}
}

// state returns a function that reports the state of a daemon.
func state(shutdown Shutdown) func() string {
	return func() string {
		switch {
		case shutdown.Drain.Err() != nil:
			return admin.Draining
		case shutdown.Retire.Err() != nil:
			return admin.Retired
		}
		return admin.Serving
	}
}
