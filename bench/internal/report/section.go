package report

import (
	"slices"

	"portredirector/bench/internal/contender"
	"portredirector/bench/internal/measure"
)

// section is one table of a report: rows with the same contenders and the same ratios.
type section struct {
	rows       []measure.Row
	contenders []string
	ratios     []ratio
}

// sections returns the tables of a report that have rows.
func (r *Report) sections() []section {
	var all []section
	for _, kind := range []struct {
		has    func(measure.Row) bool
		ratios []ratio // nil means those to HAProxy
	}{
		{func(r measure.Row) bool { return !r.Secured && !r.Datagrams }, nil},
		{func(r measure.Row) bool { return r.Secured }, securedRatios},
		{func(r measure.Row) bool { return r.Datagrams }, datagramRatios},
	} {
		var s section
		for _, row := range r.rows {
			if kind.has(row) {
				s.rows = append(s.rows, row)
			}
		}
		if len(s.rows) == 0 {
			continue
		}
		s.contenders = slices.DeleteFunc(slices.Clone(r.contenders), func(c string) bool { return !r.measured(s.rows, c) })
		s.ratios = slices.Clone(kind.ratios)
		if kind.ratios == nil {
			s.ratios = ratiosToHAProxy(s.contenders)
		}
		for _, c := range s.contenders {
			s.ratios = append(s.ratios, ratio{c, c + contender.Before})
		}
		s.ratios = slices.DeleteFunc(s.ratios, func(q ratio) bool {
			return !slices.Contains(s.contenders, q.of) || !slices.Contains(s.contenders, q.to)
		})
		all = append(all, s)
	}
	return all
}

// measured reports whether there is a sample of some rows with a contender.
func (r *Report) measured(rows []measure.Row, contender string) bool {
	return slices.ContainsFunc(rows, func(row measure.Row) bool { return len(r.of(row.Name, contender)) > 0 })
}

// head returns the head of the table.
func (s section) head() []string {
	head := append([]string{"", "median of the rounds", "unit"}, s.contenders...)
	for _, q := range s.ratios {
		head = append(head, q.String())
	}
	return head
}
