package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"portredirector/internal/testnet/nstest"
)

// Files for operators of Prometheus and Grafana.
const (
	boardFile  = "../contrib/grafana/dashboard.json"
	alertsFile = "../contrib/grafana/alerts.yml"
)

// prometheusConfig lets Prometheus scrape a client and a server. %s is the file of rules.
const prometheusConfig = `
global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1h}
rule_files: [%s]
scrape_configs:
  - job_name: portredirector
    static_configs: [{targets: ["127.0.0.1:9100", "10.0.0.2:9101"]}]
`

// TestBoard has Prometheus scrape a client and a server, where everything has happened that the board and the alerts ask for. Each
// of their queries must return series, with the labels that its text has.
func TestBoard(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := listen(t, w.m2, loopback80)
	supervise(t, w.m2, "admin = '10.0.0.2:9101'\nadmin-any = true\n"+section("server.home", "-l :"+linkPort+" -p 80 -p 81")+"max-peers = 1\n")
	supervise(t, w.m1, "admin = 9100\n"+section("client.edge", "-c "+linkTo+" -p 80 -p 81"))
	w.wantRefused(t, w.alice, 81) // no service listens
	newSession(t, w.alice, 80, service).talk(t)
	w.wantRefused(t, w.bob, 80) // by --max-peers

	p := startPrometheus(t, w)
	for _, end := range []string{"MC", "MQ"} { // the last peer, on the client and on the server
		p.wait(t, `count_over_time(portredirector_peers_total{end="`+end+`"}[1m]) > 1`) // two samples make a rate
	}
	b := readBoard(t)
	values := p.values(t, b)
	for _, panel := range b.Panels {
		for _, q := range panel.Targets {
			p.check(t, panel.Title, values.Replace(q.Expr), legendLabels.FindAllStringSubmatch(q.LegendFormat, -1))
		}
	}
	for _, r := range p.rules(t) {
		p.check(t, r.Name, r.Query, summaryLabels.FindAllStringSubmatch(r.Annotations.Summary, -1))
	}
}

// board decodes the dashboard.
type board struct {
	Templating struct {
		List []struct {
			Name, Type string
			Query      json.RawMessage // a text, or an object with one
		}
	}
	Panels []panel
}

// panel is a part of the board.
type panel struct {
	ID      int
	Title   string
	GridPos struct{ X, Y, W, H int }
	Targets []struct{ Expr, LegendFormat string }
}

// readBoard reads the board, in which no two panels may overlap.
func readBoard(t *testing.T) (b board) {
	t.Helper()
	text, err := os.ReadFile(boardFile)
	nstest.Must(t, err, json.Unmarshal(text, &b))
	if len(b.Panels) == 0 {
		t.Error("no panels")
	}
	cells := make(map[[2]int]string)
	ids := make(map[int]bool)
	for _, p := range b.Panels {
		if ids[p.ID] || p.GridPos.X+p.GridPos.W > 24 || len(p.Targets) == 0 {
			t.Errorf("panel %q has the id of another one, is too wide, or has no query", p.Title)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other := cells[at]; other != "" {
					t.Fatalf("panels %q and %q overlap", other, p.Title)
				}
				cells[at] = p.Title
			}
		}
	}
	return b
}

// rule is an alert.
type rule struct {
	Name, Query string
	Annotations struct{ Summary string }
}

// prometheusServer is a Prometheus that runs on M1.
type prometheusServer struct{ client *http.Client }

// startPrometheus starts Prometheus.
func startPrometheus(t *testing.T, w *world) prometheusServer {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	rules, err := filepath.Abs(alertsFile)
	nstest.Must(t, err, os.WriteFile(config, fmt.Appendf(nil, prometheusConfig, rules), 0o600))
	nstest.Start(t, w.m1, "prometheus", "--config.file="+config, "--storage.tsdb.path="+dir, "--web.listen-address=127.0.0.1:9090").
		WaitOutput("Server is ready")
	transport := &http.Transport{DialContext: func(ctx context.Context, _, at string) (net.Conn, error) {
		return w.m1.Dial(ctx, netip.AddrPort{}, netip.MustParseAddrPort(at))
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return prometheusServer{&http.Client{Transport: transport, Timeout: patience}}
}

// get asks Prometheus.
func (p prometheusServer) get(t *testing.T, path string, query url.Values, into any) {
	t.Helper()
	r, err := p.client.Get("http://127.0.0.1:9090/api/v1/" + path + "?" + query.Encode())
	nstest.Must(t, err)
	defer r.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: into}
	nstest.Must(t, json.NewDecoder(r.Body).Decode(&answer))
	if answer.Status != "success" {
		t.Fatalf("%s %v: %s", path, query, answer.Error)
	}
}

// query returns the labels of the series that an expression has now.
func (p prometheusServer) query(t *testing.T, expr string) (series []map[string]string) {
	t.Helper()
	var data struct {
		Result []struct{ Metric map[string]string }
	}
	p.get(t, "query", url.Values{"query": {expr}}, &data)
	for _, r := range data.Result {
		series = append(series, r.Metric)
	}
	return series
}

// wait waits until an expression has series.
func (p prometheusServer) wait(t *testing.T, expr string) {
	t.Helper()
	nstest.WaitFor(t, expr, func() bool {
		time.Sleep(100 * time.Millisecond) // a query is not cheap
		return len(p.query(t, expr)) > 0
	})
}

// rules returns the alerts that Prometheus has read.
func (p prometheusServer) rules(t *testing.T) (all []rule) {
	t.Helper()
	var data struct{ Groups []struct{ Rules []rule } }
	p.get(t, "rules", nil, &data)
	for _, g := range data.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Error("no alerts")
	}
	return all
}

// values returns what puts all values that a variable of the board can have in the place of its name.
func (p prometheusServer) values(t *testing.T, b board) *strings.Replacer {
	t.Helper()
	replace := []string{"$__rate_interval", "1m"}
	for _, v := range b.Templating.List {
		var query struct{ Query string }
		if v.Type != "query" {
			continue
		}
		nstest.Must(t, json.Unmarshal(v.Query, &query))
		m := labelValues.FindStringSubmatch(strings.NewReplacer(replace...).Replace(query.Query))
		if m == nil {
			t.Fatalf("the variable %s is %q", v.Name, query.Query)
		}
		var values []string
		p.get(t, "label/"+m[2]+"/values", url.Values{"match[]": {m[1]}}, &values)
		if len(values) == 0 {
			t.Errorf("the variable %s has no values: %s", v.Name, query.Query)
		}
		replace = append(replace, "$"+v.Name, strings.Join(values, "|"))
	}
	return strings.NewReplacer(replace...)
}

// Where texts have labels and metrics.
var (
	labelValues   = regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)
	legendLabels  = regexp.MustCompile(`{{(\w+)}}`)
	summaryLabels = regexp.MustCompile(`\$labels\.(\w+)`)
	groupLabels   = regexp.MustCompile(`\b(?:by|on) \(([\w, ]+)\)`)
	metricNames   = regexp.MustCompile(`\b(?:portredirector|process)_\w+|\bup\b`)
	comparison    = regexp.MustCompile(` (==|>) `)
)

// check fails the test unless an expression has series with these labels. A comparison leaves out the series for which it is
// false. Here it returns 0 for them.
func (p prometheusServer) check(t *testing.T, name, expr string, labels [][]string) {
	t.Helper()
	series := p.query(t, comparison.ReplaceAllString(expr, " $1 bool "))
	if len(series) == 0 {
		t.Errorf("%s: no series for %s", name, expr)
	}
	for _, l := range labels {
		if !slices.ContainsFunc(series, func(s map[string]string) bool { return s[l[1]] != "" }) {
			t.Errorf("%s: no series has a label %s: %s", name, l[1], expr)
		}
	}
	for _, m := range groupLabels.FindAllStringSubmatch(expr, -1) {
		for l := range strings.SplitSeq(m[1], ", ") {
			if have := p.labels(t, expr); !slices.Contains(have, l) {
				t.Errorf("%s: the metrics have no label %s, only %v", name, l, have)
			}
		}
	}
}

// labels returns the names of all labels that the metrics of an expression have.
func (p prometheusServer) labels(t *testing.T, expr string) (names []string) {
	t.Helper()
	metrics := make(map[string]bool)
	for _, m := range metricNames.FindAllString(expr, -1) {
		metrics[m] = true
	}
	p.get(t, "labels", url.Values{"match[]": slices.Sorted(maps.Keys(metrics))}, &names)
	return names
}

// TestAlerts has Prometheus's own tool look at the alerts, and try each.
func TestAlerts(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs other programs")
	}
	h := nstest.NewHost(t, "m1")
	nstest.Run(t, h, "promtool", "check", "rules", alertsFile)
	nstest.Run(t, h, "promtool", "test", "rules", "testdata/alerts.yml")
	text, err := os.ReadFile(alertsFile)
	nstest.Must(t, err)
	tried, err := os.ReadFile("testdata/alerts.yml")
	nstest.Must(t, err)
	for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(string(text), -1) {
		if !strings.Contains(string(tried), `alertname="`+m[1]+`"`) {
			t.Errorf("testdata/alerts.yml does not try %s", m[1])
		}
	}
}
