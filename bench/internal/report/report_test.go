package report

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"portredirector/bench/internal/contender"
	"portredirector/bench/internal/load"
	"portredirector/bench/internal/measure"
)

// contenders returns contenders by name.
func contenders(names ...string) []contender.Contender {
	found, err := contender.ByName(strings.Join(names, ","))
	if err != nil {
		panic(err)
	}
	return found
}

// twoRows returns a report of two rows, with every kind of cell.
func twoRows() *Report {
	p := measure.Plan{
		Rows: []measure.Row{
			{Subject: contender.Subject{Name: "rate"}, Title: "a rate", Metrics: []measure.Metric{{Key: "rate", Title: "rate", Unit: "conn/s"}, measure.ErrorsMetric}},
			{Subject: contender.Subject{Name: "held"}, Title: "held", Metrics: []measure.Metric{{Key: "failed", Title: "all", Worst: true, Text: measure.LostPeers}}},
			{Subject: contender.Subject{Name: "cut"}, Title: "never came to this", Metrics: []measure.Metric{{Key: "x"}}},
		},
		Contenders: contenders(contender.Direct, contender.HAProxy, contender.Product),
	}
	s := func(round int, row, contender string, v load.Values, problem, failure string) measure.Sample {
		return measure.Sample{Round: round, Row: row, Contender: contender, Outcome: load.Outcome{Values: v, Problem: problem}, Failure: failure}
	}
	return New(p, []measure.Sample{
		s(1, "rate", contender.HAProxy, load.Values{"rate": 1000, "errors": 0}, "", ""),
		s(2, "rate", contender.HAProxy, load.Values{"rate": 3000, "errors": 0.05}, "refused", ""),
		s(3, "rate", contender.HAProxy, load.Values{"rate": 9000, "errors": 0}, "", ""),
		s(1, "rate", contender.Product, load.Values{"rate": 12345.6, "errors": 0}, "", ""),
		s(2, "rate", contender.Product, load.Values{"rate": 10000, "errors": 2.5}, "reset", ""),
		s(3, "rate", contender.Product, nil, "", "the client has ended"),
		s(1, "held", contender.Direct, load.Values{"failed": 0}, "", ""),
		s(1, "held", contender.HAProxy, load.Values{"failed": 1200}, "timeout", ""),
		s(1, "held", contender.Product, nil, "", "no namespaces"),
	})
}

func TestReport(t *testing.T) {
	var out strings.Builder
	twoRows().Print(&out)
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

// TestReportSecured checks a report of two tables, with an earlier binary.
func TestReportSecured(t *testing.T) {
	p := measure.Plan{
		Rows: []measure.Row{
			{Subject: contender.Subject{Name: "rate"}, Title: "a rate", Metrics: []measure.Metric{{Key: "rate", Title: "rate", Unit: "conn/s"}}},
			{Subject: contender.Subject{Name: "rate-tls", Secured: true}, Title: "a rate, TLS", Metrics: []measure.Metric{{Key: "rate", Title: "rate", Unit: "conn/s"}}},
		},
		Contenders: contender.WithBefore(contender.All()),
	}
	var samples []measure.Sample
	s := func(row, contender string, rate float64) {
		samples = append(samples, measure.Sample{Row: row, Contender: contender, Outcome: load.Outcome{Values: load.Values{"rate": rate}}})
	}
	s("rate", contender.HAProxy, 100)
	s("rate", contender.Product, 200)
	s("rate", contender.Product+contender.Before, 160)
	s("rate-tls", contender.HAProxyTLS, 20)
	s("rate-tls", contender.Product, 300)
	s("rate-tls", contender.ProductTLS, 30)
	var out strings.Builder
	New(p, samples).Print(&out)
	want := `
|        | median of the rounds | unit   | haproxy | portredirector | portredirector-before | portredirector ÷ haproxy | portredirector-before ÷ haproxy | portredirector ÷ portredirector-before |
| ------ | -------------------- | ------ | ------: | -------------: | --------------------: | -----------------------: | ------------------------------: | -------------------------------------: |
| a rate | rate                 | conn/s |     100 |            200 |                   160 |                     2.00 |                            1.60 |                                   1.25 |

|             | median of the rounds | unit   | haproxy-tls | portredirector | portredirector-tls | portredirector-tls ÷ portredirector | portredirector-tls ÷ haproxy-tls |
| ----------- | -------------------- | ------ | ----------: | -------------: | -----------------: | ----------------------------------: | -------------------------------: |
| a rate, TLS | rate                 | conn/s |          20 |            300 |                 30 |                                0.10 |                             1.50 |

`
	if diff := cmp.Diff(want, "\n"+out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestReportFailed(t *testing.T) {
	if err := twoRows().Failed(); err == nil || err.Error() != "2 of 9 measurements failed" {
		t.Errorf("got %v", err)
	}
	if err := new(Report).Failed(); err != nil {
		t.Errorf("got %v for nothing", err)
	}
}

func TestFormat(t *testing.T) {
	for _, tt := range []struct {
		m    measure.Metric
		v    float64
		want string
	}{
		{measure.Metric{}, 0, "0"},
		{measure.Metric{}, 999.4, "999"},
		{measure.Metric{}, 1000, "1,000"},
		{measure.Metric{Digits: 1}, 1234567.89, "1,234,567.9"},
		{measure.Metric{Digits: 2}, -1234, "-1,234.00"},
		{measure.Metric{Digits: 2}, -123, "-123.00"},
		{measure.Metric{Text: measure.LostPeers}, 0, "ok"},
		{measure.Metric{Text: measure.LostPeers}, 4213, "4,213 lost"},
	} {
		if got := tt.m.Format(tt.v); got != tt.want {
			t.Errorf("%g is shown as %q, want %q", tt.v, got, tt.want)
		}
	}
}
