package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// contenders returns contenders by name.
func contenders(names ...string) []contender {
	found, err := contendersByName(strings.Join(names, ","))
	if err != nil {
		panic(err)
	}
	return found
}

// twoRows is a report of two rows, with something of everything in it.
func twoRows() *report {
	p := plan{
		rows: []row{
			{subject: subject{name: "rate"}, title: "a rate", metrics: []metric{{key: "rate", title: "rate", unit: "conn/s"}, errorsMetric}},
			{subject: subject{name: "held"}, title: "held", metrics: []metric{{key: "failed", title: "all", worst: true, text: lostPeers}}},
			{subject: subject{name: "cut"}, title: "never came to this", metrics: []metric{{key: "x"}}},
		},
		contenders: contenders(nameDirect, nameHAProxy, nameProduct),
	}
	s := func(round int, row, contender string, v values, problem, failure string) sample {
		return sample{Round: round, Row: row, Contender: contender, outcome: outcome{Values: v, Problem: problem}, Failure: failure}
	}
	return newReport(p, []sample{
		s(1, "rate", nameHAProxy, values{"rate": 1000, "errors": 0}, "", ""),
		s(2, "rate", nameHAProxy, values{"rate": 3000, "errors": 0.05}, "refused", ""),
		s(3, "rate", nameHAProxy, values{"rate": 9000, "errors": 0}, "", ""),
		s(1, "rate", nameProduct, values{"rate": 12345.6, "errors": 0}, "", ""),
		s(2, "rate", nameProduct, values{"rate": 10000, "errors": 2.5}, "reset", ""),
		s(3, "rate", nameProduct, nil, "", "the client has ended"),
		s(1, "held", nameDirect, values{"failed": 0}, "", ""),
		s(1, "held", nameHAProxy, values{"failed": 1200}, "timeout", ""),
		s(1, "held", nameProduct, nil, "", "no namespaces"),
	})
}

func TestReport(t *testing.T) {
	var out strings.Builder
	twoRows().print(&out)
	want := `
|        | median of the rounds | unit   | direct |        haproxy | portredirector | direct ÷ haproxy | portredirector ÷ haproxy |
| ------ | -------------------- | ------ | -----: | -------------: | -------------: | ---------------: | -----------------------: |
| a rate | rate                 | conn/s |      – |          3,000 | 11,173 [1] [2] |                  |                     3.72 |
|        | errors, worst round  | %      |      – |           0.05 |           2.50 |                  |                          |
| held   | all                  |        |     ok | 1,200 lost [3] |        n/a [4] |                  |                          |

[1] a rate, portredirector: failed in 1 of 3 rounds: the client has ended
[2] a rate, portredirector: failed connections in 1 of 3 rounds: reset
[3] held, haproxy: failed connections in 1 of 1 rounds: timeout
[4] held, portredirector: failed in 1 of 1 rounds: no namespaces

`
	if diff := cmp.Diff(want, "\n"+out.String()); diff != "" {
		t.Error(diff)
	}
}

// TestReportSecured is about a report of two tables.
func TestReportSecured(t *testing.T) {
	p := plan{
		rows: []row{
			{subject: subject{name: "rate"}, title: "a rate", metrics: []metric{{key: "rate", title: "rate", unit: "conn/s"}}},
			{subject: subject{name: "rate-tls", secured: true}, title: "a rate, TLS", metrics: []metric{{key: "rate", title: "rate", unit: "conn/s"}}},
		},
		contenders: allContenders(),
	}
	var samples []sample
	s := func(row, contender string, rate float64) {
		samples = append(samples, sample{Row: row, Contender: contender, outcome: outcome{Values: values{"rate": rate}}})
	}
	s("rate", nameHAProxy, 100)
	s("rate", nameProduct, 200)
	s("rate-tls", nameHAProxyTLS, 20)
	s("rate-tls", nameProduct, 300)
	s("rate-tls", nameProductTLS, 30)
	var out strings.Builder
	newReport(p, samples).print(&out)
	want := `
|        | median of the rounds | unit   | haproxy | portredirector | portredirector ÷ haproxy |
| ------ | -------------------- | ------ | ------: | -------------: | -----------------------: |
| a rate | rate                 | conn/s |     100 |            200 |                     2.00 |

|             | median of the rounds | unit   | haproxy-tls | portredirector | portredirector-tls | portredirector-tls ÷ portredirector | portredirector-tls ÷ haproxy-tls |
| ----------- | -------------------- | ------ | ----------: | -------------: | -----------------: | ----------------------------------: | -------------------------------: |
| a rate, TLS | rate                 | conn/s |          20 |            300 |                 30 |                                0.10 |                             1.50 |

`
	if diff := cmp.Diff(want, "\n"+out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestReportFailed(t *testing.T) {
	if err := twoRows().failed(); err == nil || err.Error() != "2 of 9 measurements failed" {
		t.Errorf("got %v", err)
	}
	if err := new(report).failed(); err != nil {
		t.Errorf("got %v for nothing", err)
	}
}

func TestFormat(t *testing.T) {
	for _, tt := range []struct {
		m    metric
		v    float64
		want string
	}{
		{metric{}, 0, "0"},
		{metric{}, 999.4, "999"},
		{metric{}, 1000, "1,000"},
		{metric{digits: 1}, 1234567.89, "1,234,567.9"},
		{metric{digits: 2}, -1234, "-1,234.00"},
		{metric{digits: 2}, -123, "-123.00"},
		{metric{text: lostPeers}, 0, "ok"},
		{metric{text: lostPeers}, 4213, "4,213 lost"},
	} {
		if got := tt.m.format(tt.v); got != tt.want {
			t.Errorf("%g is shown as %q, want %q", tt.v, got, tt.want)
		}
	}
}
