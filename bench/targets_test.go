package main

import (
	"math"
	"strings"
	"testing"
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

// TestTargetsAreMeasured makes sure that every target is about what a row
// measures: with a value for every metric there is one for every target.
func TestTargetsAreMeasured(t *testing.T) {
	p := plan{rows: allRows(), contenders: allContenders()}
	var samples []sample
	for _, r := range p.rows {
		v := make(values)
		for _, m := range r.metrics {
			v[m.key] = 1
		}
		for _, c := range names(p.contenders) {
			samples = append(samples, sample{Row: r.name, Contender: c, outcome: outcome{Values: v}})
		}
	}
	full, empty := newReport(p, samples), newReport(p, nil)
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
	r := newReport(plan{rows: allRows(), contenders: allContenders()}, []sample{
		{Row: "bulk-1-up", Contender: nameHAProxy, outcome: outcome{Values: values{"gbit": 2}}},
		{Row: "bulk-1-up", Contender: nameProduct, outcome: outcome{Values: values{"gbit": 6}}},
		{Row: "bulk-1-down", Contender: nameHAProxy, outcome: outcome{Values: values{"gbit": 2}}},
		{Row: "bulk-1-down", Contender: nameProduct, outcome: outcome{Values: values{"gbit": 4}}},
		{Row: "first-byte-far-1", Contender: nameHAProxy, outcome: outcome{Values: values{"p50-ms": 101.5}}},
		{Row: "first-byte-far-1", Contender: nameProduct, outcome: outcome{Values: values{"p50-ms": 51.25}}},
		{Row: "bulk-far-up", Contender: nameDirect, outcome: outcome{Values: values{"mbit": 400}}},
		{Row: "bulk-far-up", Contender: nameProduct, outcome: outcome{Values: values{"mbit": 500}}},
		{Row: "bulk-far-down", Contender: nameDirect, outcome: outcome{Values: values{"mbit": 400}}},
		{Row: "bulk-far-down", Contender: nameProduct, outcome: outcome{Values: values{"mbit": 300}}},
		{Row: "held", Contender: nameProduct, outcome: outcome{Values: values{"failed": 0}}},
	})
	var out strings.Builder
	printTargets(&out, r)
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
