package measure

import (
	"context"
	"fmt"
	"time"

	"portredirector/bench/internal/contender"
	"portredirector/bench/internal/load"
)

// Numbers of the rows about datagrams.
const (
	window     = 64   // datagrams in flight
	severalIn  = 1000 // flows that take turns
	newFlows   = 8000 // fewer than a proxy keeps
	mostFlows  = 9000
	smallBytes = 64
	largeBytes = 1200
)

var datagramMetrics = []Metric{
	{Key: "rate", Title: "datagrams each way", Unit: "/s"},
	ErrorsMetric,
}

// datagramRows returns the rows about UDP. They are measured on demand only.
func datagramRows() []Row {
	rows := []Row{
		datagramRow("udp-echo-1", "64 B datagram, 1 in flight", 1, 1, smallBytes),
		datagramRow("udp-64-1", "64 B datagrams, 1 flow", 1, window, smallBytes),
		datagramRow("udp-64-1000", "64 B datagrams, 1,000 flows", severalIn, window, smallBytes),
		datagramRow("udp-1200-1", "1,200 B datagrams, 1 flow", 1, window, largeBytes),
		datagramRow("udp-1200-1000", "1,200 B datagrams, 1,000 flows", severalIn, window, largeBytes),
		newFlowsRow(),
		idleFlowsRow(),
		heldFlowsRow(),
	}
	for i := range rows {
		rows[i].Datagrams = true
		rows[i].mode = load.ModeDatagrams
	}
	return rows
}

// datagramRow measures echoes of datagrams. The latency is worth showing only with one in flight.
func datagramRow(name, title string, flows, inFlight, size int) Row {
	metrics := datagramMetrics
	if inFlight == 1 {
		metrics = []Metric{{Key: "p50", Title: "round trip, p50", Unit: "µs", Digits: 1}, {Key: "p99", Title: "p99", Unit: "µs", Digits: 1}, ErrorsMetric}
	}
	return Row{
		Subject: contender.Subject{Name: name}, Title: title, Metrics: metrics,
		lasts: func(t times) time.Duration { return t.warmUp + t.Echo },
		measure: func(ctx context.Context, m *measurement) (load.Outcome, error) {
			return m.load(ctx, load.KindDatagrams, fmt.Sprint("-connections=", flows), fmt.Sprint("-in-flight=", inFlight), fmt.Sprint("-size=", size),
				fmt.Sprint("-warm-up=", m.times.warmUp), fmt.Sprint("-length=", m.times.Echo))
		},
	}
}

func newFlowsRow() Row {
	return Row{
		Subject: contender.Subject{Name: "udp-new"}, Title: "new flows, with one echo on each",
		Metrics: []Metric{
			{Key: "rate", Title: "all of 8,000", Unit: "flows/s"},
			{Key: "p50", Title: "p50", Unit: "µs"},
			{Key: "p99", Title: "p99", Unit: "µs"},
			ErrorsMetric,
		},
		lasts: func(times) time.Duration { return time.Second },
		measure: func(ctx context.Context, m *measurement) (load.Outcome, error) {
			return m.load(ctx, load.KindNewFlows, fmt.Sprint("-connections=", workers), fmt.Sprint("-samples=", newFlows))
		},
	}
}

func idleFlowsRow() Row {
	r := idleRow()
	r.Name, r.Title = "udp-idle", "idle flows"
	r.measure = func(ctx context.Context, m *measurement) (load.Outcome, error) {
		return measureIdle(ctx, m, load.KindHoldFlows)
	}
	return r
}

func heldFlowsRow() Row {
	r := heldRow()
	r.Name, r.Title = "udp-held", "9,000 flows at once"
	r.measure = func(ctx context.Context, m *measurement) (load.Outcome, error) {
		return measureHeld(ctx, m, load.KindHoldFlows, mostFlows)
	}
	return r
}
