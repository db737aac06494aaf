package admin

import (
	"net/http"
	"runtime"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"portredirector/internal/ban"
	"portredirector/internal/ports"
	"portredirector/internal/relay"
	"portredirector/internal/track"
)

// Source supplies the current state of a process. Its functions are called for each request. A nil
// function leaves its metrics out. An API needs all but Servers, Refused and Routes.
type Source struct {
	Version string
	Self    *Self
	Role    string                          // RoleClient or RoleServer
	Health  func() (note string, err error) // as in Process
	State   func() string                   // Serving, Retired or Draining
	Table   *track.Table                    // of the connections
	Ports   func() []Port                   // without counts; those that are configured, unless they are very many
	Limits  func() []Limit
	Paths   func([]track.Record) []relay.Paths // of live connections

	Totals  func() map[ports.Port]track.Totals
	Service func(port ports.Port) (name string, ok bool) // ok is false for a port that is not configured
	Servers func() []Upstream                            // of a client
	Refused func(yield func(reason string, n uint64) bool)
	Routes  func() []Route
	Dropped func() map[string]uint64 // lines that each log has dropped
	Bans    *ban.List
	Workers []Worker // of a supervisor
}

// metric describes a metric of this program.
type metric struct {
	*prometheus.Desc

	kind prometheus.ValueType
}

// newMetric describes a metric.
func newMetric(kind prometheus.ValueType, name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc("portredirector_"+name, help, labels, nil), kind}
}

const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue

// The metrics.
var (
	build      = newMetric(gauge, "build_info", "Always 1, with the version.", "version", "goversion")
	peersEnded = newMetric(counter, "peers_total", "Peers that have ended, by their end code.", "port", "service", "end")
	peers      = newMetric(gauge, "peers", "Live peers, also those that wait for a link.", "port", "service")
	bytesMoved = newMetric(counter, "bytes_total", "Bytes of peers: up is toward the service.", "port", "service", "direction")
	linkWait   = newMetric(0, "link_wait_seconds", "Time until a peer had a link, or on a server an address of its service.", "port", "service")
	connect    = newMetric(0, "connect_seconds", "Time from there until the service was connected.", "port", "service")
	firstByte  = newMetric(0, "first_byte_seconds", "Time from there until the service's first byte.", "port", "service")
	serverUp   = newMetric(gauge, "server_up", "1 if peers go to this server.", "server")
	poolLinks  = newMetric(gauge, "pool_links", "Links to a server: idle, opening, or used by a peer.", "server", "state")
	refused    = newMetric(counter, "claims_refused_total", "Links and peers that the server has refused.", "reason")
	routeOK    = newMetric(gauge, "return_route_ok", "1 if replies of the service at this address come back.", "service")
	workerUp   = newMetric(gauge, "worker_up", "1 if the worker has answered with its metrics.", "section", "worker")
	bans       = newMetric(gauge, "bans", "Bans of peers: of this machine's list, or told by a server.", "from")
	dropped    = newMetric(counter, "dropped_log_lines_total", "Lines that a log has dropped, because it is not written fast enough.", "log")
)

// Describe sends the descriptions of all metrics.
func (s Source) Describe(to chan<- *prometheus.Desc) {
	for _, m := range []metric{
		build, peersEnded, peers, bytesMoved, linkWait, connect, firstByte, serverUp, poolLinks, refused, routeOK, workerUp, bans, dropped,
	} {
		to <- m.Desc
	}
}

// Collect sends the metrics of this moment.
func (s Source) Collect(to chan<- prometheus.Metric) {
	e := emitter{to}
	e.send(build, 1, s.Version, runtime.Version())
	s.collectPeers(e)
	if s.Servers != nil {
		for _, u := range distinct(s.Servers()) {
			e.send(serverUp, truth(u.Up), u.Name)
			for state, n := range u.Links {
				e.send(poolLinks, float64(n), u.Name, state)
			}
		}
	}
	if s.Refused != nil {
		for reason, n := range s.Refused {
			e.send(refused, float64(n), reason)
		}
	}
	if s.Routes != nil {
		for _, r := range s.Routes() {
			e.send(routeOK, truth(r.OK), r.Service)
		}
	}
	if s.Bans != nil {
		list, told := s.Bans.Len()
		e.send(bans, float64(list), "list")
		e.send(bans, float64(told), "server")
	}
	for _, w := range s.Workers {
		e.send(workerUp, truth(w.families != nil), w.Section, strconv.Itoa(w.PID))
	}
	if s.Dropped != nil {
		for log, n := range s.Dropped() {
			e.send(dropped, float64(n), log)
		}
	}
}

// collectPeers sends what is known by port.
func (s Source) collectPeers(e emitter) {
	if s.Totals == nil {
		return
	}
	for at, t := range s.byService() {
		port, service := at.port, at.service
		e.send(peers, float64(t.Live), port, service)
		e.send(bytesMoved, float64(t.Up), port, service, "up")
		e.send(bytesMoved, float64(t.Down), port, service, "down")
		for code, n := range t.Ends {
			e.send(peersEnded, float64(n), port, service, code.String())
		}
		e.sendHistogram(linkWait, t.LinkWait, port, service)
		e.sendHistogram(connect, t.Connect, port, service)
		e.sendHistogram(firstByte, t.FirstByte, port, service)
	}
}

// place has the labels of a port.
type place struct{ port, service string }

// byService returns the totals by their labels. Ports that strangers made up are one.
func (s Source) byService() map[place]track.Totals {
	all := make(map[place]track.Totals)
	for port, t := range s.Totals() {
		at := place{port: "other"}
		if name, ok := s.Service(port); ok {
			at = place{port.String(), name}
		}
		sum := all[at]
		sum.Merge(t)
		all[at] = sum
	}
	return all
}

// emitter sends metrics.
type emitter struct{ to chan<- prometheus.Metric }

// send sends a number.
func (e emitter) send(m metric, value float64, labels ...string) {
	e.to <- prometheus.MustNewConstMetric(m.Desc, m.kind, value, valid(labels)...)
}

// sendHistogram sends a histogram.
func (e emitter) sendHistogram(m metric, h track.Histogram, labels ...string) {
	buckets, count := make(map[float64]uint64, len(track.Bounds)), uint64(0)
	for i, n := range h.Buckets {
		count += n
		if i < len(track.Bounds) {
			buckets[track.Bounds[i].Seconds()] = count
		}
	}
	e.to <- prometheus.MustNewConstHistogram(m.Desc, count, h.Sum.Seconds(), buckets, valid(labels)...)
}

// valid returns labels as Prometheus takes them.
func valid(labels []string) []string {
	for i := range labels {
		labels[i] = strings.ToValidUTF8(labels[i], "�")
	}
	return labels
}

// distinct merges servers of the same name, as of two options.
func distinct(all []Upstream) map[string]Upstream {
	merged := make(map[string]Upstream)
	for _, u := range all {
		if same, ok := merged[u.Name]; ok {
			u.Up = u.Up || same.Up
			for state, n := range same.Links {
				u.Links[state] += n
			}
		}
		merged[u.Name] = u
	}
	return merged
}

// truth returns 1 for true.
func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Gatherer returns what gathers the metrics, and those of the process and the runtime.
func (s Source) Gatherer() (prometheus.Gatherer, error) {
	r := prometheus.NewPedanticRegistry()
	all := []prometheus.Collector{s, collectors.NewGoCollector()}
	if s.Self != nil {
		all = append(all, s.Self)
	}
	for _, c := range all {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// serveMetrics answers with the metrics of a gatherer.
func serveMetrics(g prometheus.Gatherer, w http.ResponseWriter) {
	families, err := g.Gather()
	if err != nil {
		http.Error(w, oneLine(err.Error()), http.StatusInternalServerError)
		return
	}
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	w.Header().Set("Content-Type", string(format))
	encoder := expfmt.NewEncoder(w, format)
	for _, f := range families {
		if encoder.Encode(f) != nil {
			return // the caller is gone
		}
	}
}
