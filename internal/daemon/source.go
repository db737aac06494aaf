package daemon

import (
	"cmp"

	"portredirector/internal/accesslog"
	"portredirector/internal/admin"
	"portredirector/internal/config"
	"portredirector/internal/limit"
	"portredirector/internal/ports"
	"portredirector/internal/relay"
	"portredirector/internal/server"
	"portredirector/internal/track"
)

// mostPorts is the most configured ports for which operators also see ports without peers.
const mostPorts = 256

// source returns the part of an admin.Source that both ends share.
func (e Env) source(shutdown Shutdown, self *admin.Self, engine *relay.Engine, peers *track.Table, access *accesslog.Log) admin.Source {
	return admin.Source{
		Version: e.Version, Self: self, State: state(shutdown), Table: peers, Totals: peers.Totals,
		Paths: func(records []track.Record) []relay.Paths {
			meters := make([]*relay.Meter, len(records))
			for i, r := range records {
				meters[i] = r.Meter
			}
			return engine.Paths(meters)
		},
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

// source returns the admin.Source of a client.
func (d *clientDaemon) source(shutdown Shutdown) admin.Source {
	s := d.env.source(shutdown, d.operators.self, d.engine, &d.client.Track, d.access)
	s.Role = admin.RoleClient
	s.Health = health(shutdown, d.engine, d.engine.AcceptError, d.servers.Unhealthy, d.broker.Unhealthy)
	s.Service = func(port ports.Port) (name string, ok bool) { return d.cfg.Names[port], true }
	s.Ports = d.ports
	s.Servers = d.upstreams
	s.Limits = func() []admin.Limit {
		n, most := d.client.Peers.Counts(), d.cfg.Peers
		all := []admin.Limit{{Name: "max-peers", Most: most.Most, Used: &n.Peers, Struck: n.All}}
		if d.flows != nil {
			of := d.flows.Counts()
			n.Each, n.Rate = n.Each+of.Each, n.Rate+of.Rate
			all = append(all, maxFlows(of, d.cfg.Flows))
		}
		return append(all,
			admin.Limit{Name: "max-peers-per-address", Most: most.Each, Struck: n.Each},
			admin.Limit{Name: "max-new-per-address", Most: most.NewEach, Struck: n.Rate},
		)
	}
	return s
}

// ports lists the configured ports, unless they are very many.
func (d *clientDaemon) ports() (all []admin.Port) {
	for _, r := range d.cfg.PeerPorts() {
		if len(all)+r.Len() > mostPorts {
			return nil
		}
		for i := range r.Len() {
			port := r.Port(i)
			all = append(all, admin.Port{Protocol: port.Protocol.String(), Port: port.Number, Service: d.cfg.Names[port]})
		}
	}
	return all
}

// upstreams describes the servers.
func (d *clientDaemon) upstreams() []admin.Upstream {
	all := []admin.Upstream{}
	for _, u := range d.servers.States() {
		s := admin.Upstream{
			Name: u.Name, Up: u.Up,
			Links: map[string]int{"idle": u.Idle, "opening": u.Opening, "used": u.Peers},
		}
		if u.Failure != nil {
			s.Failure = u.Failure.Error()
		}
		if u.RTT > 0 {
			s.RTT = new(admin.Seconds(u.RTT.Seconds()))
		}
		all = append(all, s)
	}
	return all
}

// source returns the admin.Source of a server.
func (d *serverDaemon) source(shutdown Shutdown) admin.Source {
	s := d.env.source(shutdown, d.operators.self, d.engine, &d.server.Track, d.access)
	checks := []func() error{d.engine.AcceptError, d.routes.Unhealthy, d.containers.Unhealthy, d.broker.Unhealthy}
	if len(d.listeners) == 0 {
		checks = append(checks, d.callers.Unhealthy)
	}
	s.Role, s.Health = admin.RoleServer, health(shutdown, d.engine, checks...)
	s.Service = func(port ports.Port) (name string, ok bool) {
		service, ok := d.cfg.Service(port)
		return cmp.Or(service.Name, service.String()), ok
	}
	s.Ports = d.ports
	s.Refused = func(yield func(string, uint64) bool) { d.server.Refused().All()(yield) }
	s.Routes = d.returnRoutes
	s.Limits = d.limits
	return s
}

// ports lists the ports that have services, unless they are very many.
func (d *serverDaemon) ports() (all []admin.Port) {
	if len(d.cfg.Services)+len(d.cfg.UDPServices) <= mostPorts {
		for port, service := range d.cfg.All() {
			all = append(all, admin.Port{Protocol: port.Protocol.String(), Port: port.Number, Service: service.Name, Target: service.String()})
		}
	}
	return all
}

// returnRoutes describes the last proofs.
func (d *serverDaemon) returnRoutes() []admin.Route {
	all := []admin.Route{}
	for _, f := range d.routes.Findings() {
		r := admin.Route{Service: f.Service.String(), OK: true, Refuses: f.Refuses(), Finding: f.Outcome.String()}
		if err := f.Err(); err != nil {
			r.OK, r.Problem = false, err.Error()
		}
		all = append(all, r)
	}
	return all
}

// limits describes the limits on peers and on waiting links.
func (d *serverDaemon) limits() []admin.Limit {
	n, most := d.server.Peers.Counts(), d.cfg.Peers
	all := []admin.Limit{
		{Name: "max-peers", Most: most.Most, Used: &n.Peers, Struck: n.All},
		{Name: "max-peers-per-client", Most: most.Each, Struck: n.Each},
	}
	if d.flows != nil {
		all = append(all, maxFlows(d.flows.Counts(), d.cfg.Flows))
	}
	for _, o := range []struct {
		name, each string
		of         []*limit.Oldest[server.Origin]
	}{
		{"max-unfinished", "max-unfinished-per-client", []*limit.Oldest[server.Origin]{&d.server.Unfinished, &d.server.Known}},
		{"max-handshakes", "", []*limit.Oldest[server.Origin]{&d.server.Handshakes}},
	} {
		all = append(all, waiting(o.name, o.each, o.of)...)
	}
	return all
}

// maxFlows describes the bound on UDP flows.
func maxFlows(of limit.Counts, most config.Bounds) admin.Limit {
	return admin.Limit{Name: "max-flows", Most: most.Most, Used: &of.Peers, Struck: of.All}
}

// waiting describes the limits on waiting links. each is the option for one client, or "".
func waiting(name, each string, of []*limit.Oldest[server.Origin]) []admin.Limit {
	sum, perClient := admin.Limit{Name: name, Most: of[0].Most, Used: new(0)}, admin.Limit{Name: each, Most: of[0].MostEach}
	for _, o := range of {
		n := o.Counts()
		*sum.Used += n.Waiting
		sum.Struck += n.All
		perClient.Struck += n.Each
	}
	if each == "" {
		sum.Struck += perClient.Struck
		return []admin.Limit{sum}
	}
	return []admin.Limit{sum, perClient}
}
