package admin_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"portredirector/internal/admin"
	"portredirector/internal/ban"
	"portredirector/internal/ports"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/track"
)

// full returns a source in which everything has happened on a number of ports and servers.
func full(many, servers int) admin.Source {
	return admin.Source{
		Version: "1.2.3",
		Totals: func() map[ports.Port]track.Totals {
			all := make(map[ports.Port]track.Totals)
			for port := range many {
				t := track.Totals{Live: 2, Ends: make(map[track.Code]uint64), Up: 3, Down: 4}
				for _, who := range "PCLSVMA" {
					for _, phase := range "QCDL" {
						t.Ends[track.Code{Who: track.Who(who), Phase: track.Phase(phase)}] = 5
					}
				}
				t.Ends[track.Finished] = 6
				t.Connect.Buckets = [11]uint64{1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 4}
				all[ports.Port{Number: uint16(port + 1)}] = t
			}
			return all
		},
		Service: func(port ports.Port) (string, bool) { return fmt.Sprint("service ", port), true },
		Servers: func() (all []admin.Upstream) {
			for i := range servers {
				all = append(all, admin.Upstream{Name: fmt.Sprint(i), Up: i == 0, Links: map[string]int{"idle": 1, "opening": 2, "used": 3}})
			}
			return all
		},
		Refused: func(yield func(string, uint64) bool) { yield("claim", 7) },
		Routes: func() []admin.Route {
			return []admin.Route{{Service: "127.0.0.1:80", OK: true}, {Service: "[::1]:80"}}
		},
		Bans:    new(ban.List),
		Dropped: func() map[string]uint64 { return map[string]uint64{"access": 8, "program": 9} },
		Workers: []admin.Worker{{Section: "client home", PID: 7}},
	}
}

// scrape serves a source on the socket of this process and asks for its metrics.
func scrape(t *testing.T, s admin.Source) string {
	t.Helper()
	nstest.Require(t)
	self, err := admin.OpenSelf()
	nstest.Must(t, err)
	s.Self = self
	server, err := admin.Serve(admin.Process{Metrics: func() (prometheus.Gatherer, error) { return s.Gatherer() }})
	nstest.Must(t, err)
	status, text, err := admin.Get(t.Context(), os.Getpid(), "/metrics")
	server.Close()
	nstest.Must(t, err)
	nstest.Must(t, self.Close())
	if status != 200 {
		t.Fatalf("%d: %s", status, text)
	}
	return string(text)
}

// TestPromtool has Prometheus's own tool look at all metrics.
func TestPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("no promtool (Debian: prometheus)")
	}
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(scrape(t, full(2, 2)))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}

// TestMetrics wants the numbers of a source.
func TestMetrics(t *testing.T) {
	text := scrape(t, full(1, 1))
	for _, want := range []string{
		`portredirector_build_info{goversion="go1.`,
		`portredirector_peers{port="1",service="service 1"} 2`,
		`portredirector_peers_total{end="--",port="1",service="service 1"} 6`,
		`portredirector_peers_total{end="VC",port="1",service="service 1"} 5`,
		`portredirector_bytes_total{direction="up",port="1",service="service 1"} 3`,
		`portredirector_bytes_total{direction="down",port="1",service="service 1"} 4`,
		`portredirector_connect_seconds_bucket{port="1",service="service 1",le="0.001"} 1`,
		`portredirector_connect_seconds_bucket{port="1",service="service 1",le="1"} 3`,
		`portredirector_connect_seconds_bucket{port="1",service="service 1",le="30"} 3`,
		`portredirector_connect_seconds_bucket{port="1",service="service 1",le="+Inf"} 7`,
		`portredirector_connect_seconds_count{port="1",service="service 1"} 7`,
		`portredirector_server_up{server="0"} 1`,
		`portredirector_pool_links{server="0",state="opening"} 2`,
		`portredirector_claims_refused_total{reason="claim"} 7`,
		`portredirector_return_route_ok{service="[::1]:80"} 0`,
		`portredirector_dropped_log_lines_total{log="access"} 8`,
		`process_open_fds `, `process_resident_memory_bytes `, `process_cpu_seconds_total `, `go_goroutines `,
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("no %s", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// TestStrangeLabels wants one series for all ports that strangers made up, for servers of one name, and labels that are no text.
func TestStrangeLabels(t *testing.T) {
	s := full(9, 2)
	s.Service = func(port ports.Port) (string, bool) { return "a\xff", port.Number == 1 }
	servers := s.Servers
	s.Servers = func() []admin.Upstream {
		all := servers()
		all[1].Name = all[0].Name
		return all
	}
	text := scrape(t, s)
	for _, want := range []string{
		`portredirector_peers{port="1",service="a�"} 2`,
		`portredirector_peers{port="other",service=""} 16`,
		`portredirector_connect_seconds_count{port="other",service=""} 56`,
		`portredirector_server_up{server="0"} 1`,
		`portredirector_pool_links{server="0",state="used"} 6`,
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("no %s", want)
		}
	}
}

// TestSeries bounds the series of a large client: every end of 200 ports, and 20 servers.
func TestSeries(t *testing.T) {
	n := 0
	for line := range strings.Lines(scrape(t, full(200, 20))) {
		if !strings.HasPrefix(line, "#") {
			n++
		}
	}
	if n < 200*60 || n >= 20000 {
		t.Errorf("there are %d series", n)
	}
}

// TestMetricsPage compares the table of the guide with the registry.
func TestMetricsPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/guide/metrics.md")
	nstest.Must(t, err)
	told := make(map[string]string)
	for _, m := range regexp.MustCompile("(?m)^\\| `(portredirector_\\w+)` \\| ([^|]*) \\| (.*) \\|$").FindAllStringSubmatch(string(page), -1) {
		told[m[1]] = m[2] + "| " + m[3]
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(scrape(t, full(1, 1))))
	nstest.Must(t, err)
	have := make(map[string]string)
	for name, f := range families {
		if strings.HasPrefix(name, "portredirector_") {
			have[name] = labels(f) + "| " + f.GetHelp()
		}
	}
	if diff := cmp.Diff(have, told); diff != "" {
		t.Error(diff)
		for _, name := range slices.Sorted(maps.Keys(have)) {
			t.Logf("| `%s` | %s |", name, strings.Replace(have[name], "|", " |", 1))
		}
	}
}

// labels lists the labels of a metric.
func labels(f *dto.MetricFamily) string {
	var all []string
	for _, l := range f.GetMetric()[0].GetLabel() {
		all = append(all, "`"+l.GetName()+"`")
	}
	return strings.Join(all, " ")
}
