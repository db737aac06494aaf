package main

// ratio is a column of the table: the values of one contender to those of
// another.
type ratio struct{ of, to string }

func (q ratio) String() string { return q.of + " ÷ " + q.to }

// securedRatios are those of the rows about secured links: what it costs each to
// secure them, how the two that do it by TLS compare, and whether it matters which end
// opens them.
var securedRatios = []ratio{
	{nameHAProxyTLS, nameHAProxy},
	{nameProductTLS, nameProduct},
	{nameProductAuth, nameProduct},
	{nameProductTLS, nameHAProxyTLS},
	{nameDials, nameProductTLS},
}

// ratiosToHAProxy are those of the other rows.
func ratiosToHAProxy(contenders []string) []ratio {
	var all []ratio
	for _, c := range contenders {
		if c != nameHAProxy {
			all = append(all, ratio{c, nameHAProxy})
		}
	}
	return all
}

// ratio is the value of a ratio, or not a number if one of the two is missing.
func (r *report) ratio(q ratio, row string, m metric) float64 {
	return r.value(row, q.of, m) / r.value(row, q.to, m)
}
