package report

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"portredirector/bench/internal/contender"
	"portredirector/bench/internal/measure"
)

// tooManyErrors is the share of failed connections, in %, above which a result is marked.
const tooManyErrors = 0.1

// Report is the result of all samples.
type Report struct {
	rows       []measure.Row
	contenders []string
	samples    []measure.Sample
	notes      []string
}

// New returns a report of the rows and contenders that have samples. Others were not measured, or the benchmark was interrupted.
func New(p measure.Plan, samples []measure.Sample) *Report {
	r := &Report{samples: samples}
	for _, c := range contender.Names(p.Contenders) {
		if slices.ContainsFunc(samples, func(s measure.Sample) bool { return s.Contender == c }) {
			r.contenders = append(r.contenders, c)
		}
	}
	for _, row := range p.Rows {
		if slices.ContainsFunc(samples, func(s measure.Sample) bool { return s.Row == row.Name }) {
			r.rows = append(r.rows, row)
		}
	}
	return r
}

// of returns the samples of a row with a contender.
func (r *Report) of(row, contender string) []measure.Sample {
	return slices.DeleteFunc(slices.Clone(r.samples), func(s measure.Sample) bool { return s.Row != row || s.Contender != contender })
}

// value returns the median of the rounds for a metric, or the worst of them. It is NaN if there is none.
func (r *Report) value(row, contender string, m measure.Metric) float64 {
	var all []float64
	for _, s := range r.of(row, contender) {
		if v, ok := s.Values[m.Key]; ok {
			all = append(all, v)
		}
	}
	if m.Worst && len(all) > 0 {
		return slices.Max(all)
	}
	return median(all)
}

// Failed returns an error if a measurement failed.
func (r *Report) Failed() error {
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

// Print prints the tables, the notes to them below.
func (r *Report) Print(w io.Writer) {
	r.notes = nil
	for _, s := range r.sections() {
		t := table{rightFrom: 3}
		t.add(s.head()...)
		t.rule()
		for _, row := range s.rows {
			for i, m := range row.Metrics {
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

// line returns the cells of one metric of a row.
func (r *Report) line(s section, row measure.Row, i int, m measure.Metric) []string {
	title := ""
	if i == 0 {
		title = row.Title
	}
	cells := []string{title, m.Title, m.Unit}
	for _, c := range s.contenders {
		cell := r.cell(row, c, m)
		if i == 0 {
			cell += r.mark(row, c)
		}
		cells = append(cells, cell)
	}
	for _, q := range s.ratios {
		v := r.ratio(q, row.Name, m)
		switch {
		case math.IsNaN(v) || math.IsInf(v, 0) || m.Worst:
			cells = append(cells, "")
		default:
			cells = append(cells, fmt.Sprintf("%.2f", v))
		}
	}
	return cells
}

// cell returns a value, or a sign that there is none.
func (r *Report) cell(row measure.Row, contender string, m measure.Metric) string {
	if len(r.of(row.Name, contender)) == 0 {
		return "–" // not measured
	}
	v := r.value(row.Name, contender, m)
	switch {
	case !math.IsNaN(v):
		return m.Format(v)
	case slices.ContainsFunc(r.of(row.Name, contender), func(s measure.Sample) bool { return s.Failure == "" }):
		return "–" // there is nothing to measure, as the CPU time of no process
	}
	return "n/a"
}

// mark returns a reference to a note about failures, if there were any.
func (r *Report) mark(row measure.Row, contender string) string {
	samples := r.of(row.Name, contender)
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
			r.notes = append(r.notes, fmt.Sprintf("%s, %s: %s in %d of %d rounds: %s", row.Title, contender, what, len(why), len(samples), why[0]))
			mark += fmt.Sprintf(" [%d]", len(r.notes))
		}
	}
	note("failed", failures)
	note("failed connections", problems)
	return mark
}

// WriteJSON writes all samples to a file.
func WriteJSON(file string, a About, samples []measure.Sample) error {
	b, err := json.MarshalIndent(struct {
		About   About            `json:"about"`
		Samples []measure.Sample `json:"samples"`
	}{a, samples}, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644) //nolint:gosec // it is no secret
}
