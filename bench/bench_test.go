package main

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"portredirector/bench/internal/contender"
	"portredirector/bench/internal/load"
	"portredirector/bench/internal/measure"
	"portredirector/bench/internal/report"
	"portredirector/bench/internal/world"
	"portredirector/internal/testnet/far"
	"portredirector/internal/testnet/nstest"
)

// TestBench measures two rows with a short time limit, and the product twice.
func TestBench(t *testing.T) {
	binary, err := product()
	nstest.Must(t, err)
	runRows(t, plainContenders, []string{"echo-1", "conn-reset"}, "-before", binary)
}

// TestBenchSecured measures rows about secured links.
func TestBenchSecured(t *testing.T) {
	runRows(t, []string{contender.HAProxy, contender.HAProxyTLS, contender.Product, contender.ProductTLS, contender.ProductAuth}, []string{"bulk-1-up-tls", "conn-peer-fin-tls", "first-byte-tls"})
}

// TestBenchDatagrams measures a row about UDP.
func TestBenchDatagrams(t *testing.T) {
	contenders := []string{contender.Direct, contender.Product, contender.ProductTLS, contender.Nginx}
	if _, err := exec.LookPath("nginx"); err != nil {
		t.Log("without nginx: ", err)
		contenders = contenders[:3]
	}
	runRows(t, contenders, []string{"udp-1200-1000"})
}

// TestBenchFar measures rows in which M1 and M2 are far from each other.
func TestBenchFar(t *testing.T) {
	nstest.ConnectFar(t, nstest.NewHost(t, "here"), nil, nstest.NewHost(t, "there"), nil, far.Path{}) // skips where it cannot be
	for _, s := range runRows(t, plainContenders, []string{"first-byte-far-200", "answer-far-50", "bulk-far-up", "bulk-far-loss-down"}) {
		// A proxy may save one of the two round trips.
		least := float64(measure.FarRoundTrip.Milliseconds())
		if s.Contender == contender.Direct {
			least *= 2
		}
		if v, ok := s.Values["p50-ms"]; ok && v < least {
			t.Errorf("%s, %s: it took %g ms", s.Row, s.Contender, v)
		}
	}
}

// plainContenders are the contenders of most rows.
var plainContenders = []string{contender.Direct, contender.Product, contender.HAProxy}

// runRows measures rows with the contenders that are installed, and returns the samples. more has further options.
func runRows(t *testing.T, contenders, rows []string, more ...string) []measure.Sample {
	t.Helper()
	if testing.Short() {
		t.Skip("takes ten seconds, and builds the product")
	}
	nstest.Require(t)
	scratch := t.TempDir()
	t.Setenv(world.EnvScratch, scratch)
	file := filepath.Join(scratch, "samples.json")
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Log("without HAProxy: ", err)
		contenders = slices.DeleteFunc(slices.Clone(contenders), func(c string) bool { return strings.HasPrefix(c, contender.HAProxy) })
	}
	binary, err := product()
	nstest.Must(t, err)
	e := load.Streams{Stdout: new(strings.Builder), Stderr: t.Output()}
	args := []string{"-quick", "-binary", binary, "-rows", "^(" + strings.Join(rows, "|") + ")$", "-json", file, "-contenders", strings.Join(contenders, ",")}
	opts, err := parseOptions(e, append(args, more...))
	nstest.Must(t, err)
	opts.plan.Times.Bulk, opts.plan.Times.Echo, opts.plan.Times.Sustained, opts.plan.Times.Window = time.Second/2, time.Second/2, time.Second, time.Second/3
	opts.plan.Times.Far = measure.FarTimes{WarmUp: time.Second / 2, Bulk: time.Second / 2, Samples: map[int]int{50: 25, 200: 50}}
	nstest.Must(t, provideBinary(t.Context(), e, opts, filepath.Join(scratch, contender.Binary)))
	if err := bench(t.Context(), e, opts); err != nil {
		t.Error(err)
	}
	t.Log(e.Stdout)
	samples := readSamples(t, file)
	if n := len(opts.plan.Contenders); len(samples) != len(rows)*n {
		t.Errorf("%d samples of %d contenders and %d rows", len(samples), n, len(rows))
	}
	return samples
}

// readSamples fails the test unless there is a plausible value for every metric of every row.
func readSamples(t *testing.T, file string) []measure.Sample {
	t.Helper()
	b, err := os.ReadFile(file)
	nstest.Must(t, err)
	var all struct {
		About   report.About
		Samples []measure.Sample
	}
	nstest.Must(t, json.Unmarshal(b, &all))
	if all.About.Kernel == "" || !strings.HasPrefix(all.About.Go, "go") {
		t.Errorf("about: %+v", all.About)
	}
	rows := measure.AllRows()
	for _, s := range all.Samples {
		i := slices.IndexFunc(rows, func(r measure.Row) bool { return r.Name == s.Row })
		for _, m := range rows[i].Metrics {
			v, ok := s.Values[m.Key]
			if sensible := v > 0 || m.Key == measure.ErrorsMetric.Key && v == 0; !ok || !sensible {
				t.Errorf("%s, %s: %s is %g", s.Row, s.Contender, m.Key, v)
			}
		}
	}
	return all.Samples
}

func TestParseOptions(t *testing.T) {
	e := load.Streams{Stdout: io.Discard, Stderr: io.Discard}
	opts, err := parseOptions(e, []string{"-rows", "^bulk-1-(up|down)$", "-contenders", "portredirector,direct", "-before", "x"})
	nstest.Must(t, err)
	if got := strings.Join(measure.RowNames(opts.plan.Rows), " "); got != "bulk-1-up bulk-1-down" {
		t.Errorf("rows %s", got)
	}
	if got := strings.Join(contender.Names(opts.plan.Contenders), " "); got != "portredirector portredirector-before direct" {
		t.Errorf("contenders %s", got)
	}
	for _, wrong := range [][]string{
		{"-rows", "nothing"},
		{"-rows", "("},
		{"-contenders", "direct,squid"},
		{"-rounds", "0"},
		{"extra"},
	} {
		if _, err := parseOptions(e, wrong); err == nil {
			t.Errorf("%q was taken", wrong)
		}
	}
}

// TestEstimate keeps a full run within what it is worth.
func TestEstimate(t *testing.T) {
	opts, err := parseOptions(load.Streams{Stderr: io.Discard}, nil)
	nstest.Must(t, err)
	if all := opts.plan.Estimate(); all > time.Hour {
		t.Errorf("a full run takes %v", all)
	}
}
