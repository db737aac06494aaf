package daemon

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"portredirector/internal/accesslog"
	"portredirector/internal/admin"
	"portredirector/internal/relay"
	"portredirector/internal/track"
)

var errDraining = errors.New("it drains")

// openSelf opens what the kernel tells of this process, before a sandbox is in the way, and
// pushes its closer. A failure costs some metrics.
func (c *closers) openSelf(log *slog.Logger) *admin.Self {
	s, err := admin.OpenSelf()
	if err != nil {
		log.Debug("the metrics of the process are incomplete", slog.Any("error", err))
		return nil
	}
	c.pushErr(s.Close)
	return s
}

// serveAdmin answers operators and pushes its closer. A failure is logged and does not stop the
// daemon.
func (c *closers) serveAdmin(log *slog.Logger, health func() (note string, err error), metrics admin.Source) {
	s, err := admin.Serve(admin.Process{
		Health:  health,
		Metrics: func() (prometheus.Gatherer, error) { return metrics.Gatherer() },
	})
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
	s := d.env.source(d.self, &d.client.Track, d.access)
	s.Service = func(port uint16) (name string, ok bool) { return d.cfg.Names[port], true }
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
	s := d.env.source(d.self, &d.server.Track, d.access)
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
