package report

import (
	"portredirector/bench/internal/contender"
	"portredirector/bench/internal/measure"
)

// ratio is a column of the table: the values of one contender to those of
// another.
type ratio struct{ of, to string }

func (q ratio) String() string { return q.of + " ÷ " + q.to }

// securedRatios are the ratios of the rows about secured links: the cost of securing them, TLS against TLS, the effect of
// which end dials, and the gain over no proxy.
var securedRatios = []ratio{
	{contender.HAProxyTLS, contender.HAProxy},
	{contender.Product, contender.HAProxy},
	{contender.ProductTLS, contender.Product},
	{contender.ProductAuth, contender.Product},
	{contender.ProductTLS, contender.HAProxyTLS},
	{contender.Dials, contender.ProductTLS},
	{contender.Product, contender.Direct},
	{contender.ProductTLS, contender.Direct},
	{contender.ProductAuth, contender.Direct},
}

// datagramRatios are the ratios of the rows about UDP.
var datagramRatios = []ratio{
	{contender.Product, contender.Nginx},
	{contender.ProductTLS, contender.Product},
	{contender.Product, contender.Direct},
}

// ratiosToHAProxy returns the ratios of the other rows.
func ratiosToHAProxy(contenders []string) []ratio {
	var all []ratio
	for _, c := range contenders {
		if c != contender.HAProxy {
			all = append(all, ratio{c, contender.HAProxy})
		}
	}
	return all
}

// ratio returns the value of a ratio, or NaN if one of the two is missing.
func (r *Report) ratio(q ratio, row string, m measure.Metric) float64 {
	return r.value(row, q.of, m) / r.value(row, q.to, m)
}
