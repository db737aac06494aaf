package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"

	"portredirector/internal/accesslog"
	"portredirector/internal/admin"
	"portredirector/internal/ports"
	"portredirector/internal/relay"
	"portredirector/internal/track"
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
func (c *closers) serveAdmin(log *slog.Logger, health func() (note string, err error), env Env, o operators, metrics admin.Source) {
	p := admin.Process{
		Health:  health,
		Metrics: func() (prometheus.Gatherer, error) { return metrics.Gatherer() },
	}
	if o.listener != nil {
		c.push(admin.ServeTCP(o.listener, env.Admin.Names(), p).Close)
		log.Info("answering operators", slog.String("admin", o.listener.Addr().String()))
	}
	s, err := admin.Serve(p)
	if err != nil {
		log.Warn("`portredirector health` will not find this process", slog.Any("error", err))
		return
	}
	c.push(s.Close)
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

// source returns where the metrics come from that both ends have.
func (e Env) source(self *admin.Self, peers *track.Table, access *accesslog.Log) admin.Source {
	return admin.Source{
		Version: e.Version, Self: self, Totals: peers.Totals,
		Dropped: func() map[string]uint64 {
			lines := make(map[string]uint64)
			if e.Dropped != nil {
				lines["program"] = e.Dropped()
			}
			if access != nil {
				lines["access"] = access.Dropped()
			}
			return lines
		},
	}
}

// source returns where the metrics of a client come from.
func (d *clientDaemon) source() admin.Source {
	s := d.env.source(d.operators.self, &d.client.Track, d.access)
	s.Service = func(port uint16) (name string, ok bool) { return d.cfg.Names[ports.Port{Number: port}], true }
	s.Servers = func() (all []admin.Upstream) {
		for _, u := range d.servers.States() {
			all = append(all, admin.Upstream{
				Name: u.Name, Up: u.Up,
				Links: map[string]int{"idle": u.Idle, "opening": u.Opening, "used": u.Peers},
			})
		}
		return all
	}
	return s
}

// source returns where the metrics of a server come from.
func (d *serverDaemon) source() admin.Source {
	s := d.env.source(d.operators.self, &d.server.Track, d.access)
	s.Service = func(port uint16) (name string, ok bool) {
		service, ok := d.cfg.Services[port]
		if service.Name != "" {
			return service.Name, ok
		}
		return service.String(), ok
	}
	s.Refused = func(yield func(string, uint64) bool) { d.server.Refused().All()(yield) }
	s.Routes = func() map[string]bool {
		works := make(map[string]bool)
		for _, f := range d.routes.Findings() {
			works[f.Service.String()] = f.Err() == nil
		}
		return works
	}
	return s
}
