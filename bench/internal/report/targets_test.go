package report

import (
	"math"
	"strings"
	"testing"

	"portredirector/bench/internal/contender"
	"portredirector/bench/internal/load"
	"portredirector/bench/internal/measure"
)

func TestVerdict(t *testing.T) {
	least, most := target{limit: 2.5, least: true}, target{limit: 0.8}
	for _, tt := range []struct {
		target target
		v      float64
		want   string
	}{
		{least, 2.5, "met"},
		{least, 2.496, "met"}, // it is shown as 2.50
		{least, 2.49, "MISSED"},
		{least, 9, "met"},
		{most, 0.8, "met"},
		{most, 0.81, "MISSED"},
		{most, 0, "met"},
		{most, math.NaN(), "not measured"},
		{least, math.NaN(), "not measured"},
	} {
		if got := tt.target.verdict(tt.v); got != tt.want {
			t.Errorf("%g against %g is %s, want %s", tt.v, tt.target.limit, got, tt.want)
		}
	}
}

// TestTargetsAreMeasured checks that every target has a value if every metric has one.
func TestTargetsAreMeasured(t *testing.T) {
	p := measure.Plan{Rows: measure.AllRows(), Contenders: contender.All()}
	var samples []measure.Sample
	for _, r := range p.Rows {
		v := make(load.Values)
		for _, m := range r.Metrics {
			v[m.Key] = 1
		}
		for _, c := range contender.Names(p.Contenders) {
			samples = append(samples, measure.Sample{Row: r.Name, Contender: c, Outcome: load.Outcome{Values: v}})
		}
	}
	full, empty := New(p, samples), New(p, nil)
	for _, target := range targets {
		if v := target.value(full); math.IsNaN(v) {
			t.Errorf("%s: not measured by any row", target.text)
		}
		if v := target.value(empty); !math.IsNaN(v) {
			t.Errorf("%s: %g without a measurement", target.text, v)
		}
	}
}

func TestPrintTargets(t *testing.T) {
	r := New(measure.Plan{Rows: measure.AllRows(), Contenders: contender.All()}, []measure.Sample{
		{Row: "bulk-1-up", Contender: contender.HAProxy, Outcome: load.Outcome{Values: load.Values{"gbit": 2}}},
		{Row: "bulk-1-up", Contender: contender.Product, Outcome: load.Outcome{Values: load.Values{"gbit": 6}}},
		{Row: "bulk-1-down", Contender: contender.HAProxy, Outcome: load.Outcome{Values: load.Values{"gbit": 2}}},
		{Row: "bulk-1-down", Contender: contender.Product, Outcome: load.Outcome{Values: load.Values{"gbit": 4}}},
		{Row: "first-byte-far-1", Contender: contender.HAProxy, Outcome: load.Outcome{Values: load.Values{"p50-ms": 101.5}}},
		{Row: "first-byte-far-1", Contender: contender.Product, Outcome: load.Outcome{Values: load.Values{"p50-ms": 51.25}}},
		{Row: "bulk-far-up", Contender: contender.Direct, Outcome: load.Outcome{Values: load.Values{"mbit": 400}}},
		{Row: "bulk-far-up", Contender: contender.Product, Outcome: load.Outcome{Values: load.Values{"mbit": 500}}},
		{Row: "bulk-far-down", Contender: contender.Direct, Outcome: load.Outcome{Values: load.Values{"mbit": 400}}},
		{Row: "bulk-far-down", Contender: contender.Product, Outcome: load.Outcome{Values: load.Values{"mbit": 300}}},
		{Row: "held", Contender: contender.Product, Outcome: load.Outcome{Values: load.Values{"failed": 0}}},
	})
	var out strings.Builder
	PrintTargets(&out, r)
	for _, want := range []string{
		"|  ≥ 2.50 |    2.00 |       MISSED |", // the worse direction counts
		"| ≥ 50.00 |   50.25 |          met |",
		"|  ≥ 1.00 |    0.75 |       MISSED |",
		"|      ok |      ok |          met |",
		"|  ≤ 0.80 |         | not measured |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	if got := strings.Count(out.String(), "\n"); got != len(targets)+2 {
		t.Errorf("%d lines for %d targets", got, len(targets))
	}
}
