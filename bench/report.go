package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
)

// tooManyErrors is the share of failed connections, in %, above which a result
// is marked.
const tooManyErrors = 0.1

// report is what the samples come to.
type report struct {
	rows       []row
	contenders []string
	samples    []sample
	notes      []string
}

// newReport has the rows and the contenders that there are samples of: not all
// contenders take all rows, and the benchmark may have been interrupted.
func newReport(p plan, samples []sample) *report {
	r := &report{samples: samples}
	for _, c := range names(p.contenders) {
		if slices.ContainsFunc(samples, func(s sample) bool { return s.Contender == c }) {
			r.contenders = append(r.contenders, c)
		}
	}
	for _, row := range p.rows {
		if slices.ContainsFunc(samples, func(s sample) bool { return s.Row == row.name }) {
			r.rows = append(r.rows, row)
		}
	}
	return r
}

// of returns the samples of a row with a contender.
func (r *report) of(row, contender string) []sample {
	return slices.DeleteFunc(slices.Clone(r.samples), func(s sample) bool { return s.Row != row || s.Contender != contender })
}

// value is what the rounds come to for a metric: their median, or the worst of
// them. It is not a number if there is none.
func (r *report) value(row, contender string, m metric) float64 {
	var all []float64
	for _, s := range r.of(row, contender) {
		if v, ok := s.Values[m.key]; ok {
			all = append(all, v)
		}
	}
	if m.worst && len(all) > 0 {
		return slices.Max(all)
	}
	return median(all)
}

// failed is an error if a measurement failed.
func (r *report) failed() error {
	n := 0
	for _, s := range r.samples {
		if s.Failure != "" {
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("%d of %d measurements failed", n, len(r.samples))
	}
	return nil
}

// print prints the tables, the notes to them below.
func (r *report) print(w io.Writer) {
	r.notes = nil
	for _, s := range r.sections() {
		t := table{rightFrom: 3}
		t.add(s.head()...)
		t.rule()
		for _, row := range s.rows {
			for i, m := range row.metrics {
				t.add(r.line(s, row, i, m)...)
			}
		}
		t.print(w)
		fmt.Fprintln(w)
	}
	for i, n := range r.notes {
		fmt.Fprintf(w, "[%d] %s\n", i+1, n)
	}
	if len(r.notes) > 0 {
		fmt.Fprintln(w)
	}
}

// line is one metric of a row.
func (r *report) line(s section, row row, i int, m metric) []string {
	title := ""
	if i == 0 {
		title = row.title
	}
	cells := []string{title, m.title, m.unit}
	for _, c := range s.contenders {
		cell := r.cell(row, c, m)
		if i == 0 {
			cell += r.mark(row, c)
		}
		cells = append(cells, cell)
	}
	for _, q := range s.ratios {
		v := r.ratio(q, row.name, m)
		switch {
		case math.IsNaN(v) || math.IsInf(v, 0) || m.worst:
			cells = append(cells, "")
		default:
			cells = append(cells, fmt.Sprintf("%.2f", v))
		}
	}
	return cells
}

// cell is a value, or says that there is none.
func (r *report) cell(row row, contender string, m metric) string {
	if len(r.of(row.name, contender)) == 0 {
		return "–" // not measured
	}
	v := r.value(row.name, contender, m)
	switch {
	case !math.IsNaN(v):
		return m.format(v)
	case slices.ContainsFunc(r.of(row.name, contender), func(s sample) bool { return s.Failure == "" }):
		return "–" // there is nothing to measure, as the CPU time of no process
	}
	return "n/a"
}

// mark refers to a note on a row, if there is something to say.
func (r *report) mark(row row, contender string) string {
	samples := r.of(row.name, contender)
	var failures, problems []string
	for _, s := range samples {
		if s.Failure != "" {
			failures = append(failures, s.Failure)
		}
		if s.Problem != "" && (s.Values["errors"] > tooManyErrors || s.Values["failed"] > 0) {
			problems = append(problems, s.Problem)
		}
	}
	mark := ""
	note := func(what string, why []string) {
		if len(why) > 0 {
			r.notes = append(r.notes, fmt.Sprintf("%s, %s: %s in %d of %d rounds: %s", row.title, contender, what, len(why), len(samples), why[0]))
			mark += fmt.Sprintf(" [%d]", len(r.notes))
		}
	}
	note("failed", failures)
	note("failed connections", problems)
	return mark
}

// writeJSON writes all there is to a file.
func writeJSON(file string, a about, samples []sample) error {
	b, err := json.MarshalIndent(struct {
		About   about    `json:"about"`
		Samples []sample `json:"samples"`
	}{a, samples}, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644) //nolint:gosec // it is no secret
}
