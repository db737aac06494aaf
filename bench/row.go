package main

import (
	"context"
	"fmt"
	"time"

	"portredirector/internal/testnet/far"
)

// row is one kind of measurement.
type row struct {
	name    string
	title   string
	mode    string // of the service
	metrics []metric
	// rounds is in how many rounds it is measured, at most; 0 means in all.
	rounds int
	// proxies says that it is about the processes of a contender, and so for
	// those only that have some.
	proxies bool
	// secured says that it is about securing the links.
	secured bool
	// way is that between M1 and M2; without a delay it is a cable.
	way far.Path
	// lasts is how long measure takes, but for starting and stopping things.
	lasts   func(t times) time.Duration
	measure func(ctx context.Context, m *measurement) (outcome, error)
}

// values are what a measurement has found, by the key of the metric.
type values = map[string]float64

// Metrics that several rows have.
var (
	bulkMetrics = []metric{
		{key: "gbit", title: "throughput", unit: "Gbit/s", digits: 2},
		{key: "cpu", title: "CPU time of both", unit: "s/GB", digits: 3},
	}
	sustainedMetrics = []metric{
		{key: "rate", title: "all the time", unit: "conn/s"},
		{key: "rate-first", title: "at first", unit: "conn/s"},
		{key: "rate-last", title: "at last", unit: "conn/s"},
		{key: "p50-first", title: "p50 at first", unit: "µs"},
		{key: "p50-last", title: "p50 at last", unit: "µs"},
		{key: "p99-first", title: "p99 at first", unit: "µs"},
		{key: "p99-last", title: "p99 at last", unit: "µs"},
		errorsMetric,
	}
	echoMetrics = []metric{
		{key: "rate", title: "messages", unit: "msg/s"},
		{key: "p50", title: "p50", unit: "µs", digits: 1},
		{key: "p99", title: "p99", unit: "µs", digits: 1},
	}
	firstByteMetrics = []metric{
		{key: "p50", title: "p50", unit: "µs"},
		{key: "p99", title: "p99", unit: "µs"},
	}
	errorsMetric = metric{key: "errors", title: "errors, worst round", unit: "%", digits: 2, worst: true}
)

// allRows are the rows, in the order of the tables.
func allRows() []row { return append(plainRows(), securedRows()...) }

// plainRows are those measured unless told otherwise.
func plainRows() []row {
	return []row{
		bulkRow("bulk-1-up", "bulk, 1 stream up", 1, false),
		bulkRow("bulk-1-down", "bulk, 1 stream down", 1, true),
		bulkRow("bulk-16-up", "bulk, 16 streams up", 16, false),
		bulkRow("bulk-16-down", "bulk, 16 streams down", 16, true),
		connectRow("conn-reset", "new connections, peers reset", modeEcho, closingReset, 0),
		connectRow("conn-peer-fin", "new connections, peers close first", modeEcho, closingPeer, 0),
		connectRow("conn-service-fin", "new connections, service closes first", modeClose, closingServe, 3),
		echoRow("echo-1", "64 B echo, 1 connection", 1),
		echoRow("echo-64", "64 B echo, 64 connections", 64),
		firstByteRow(),
		firstByteFarRow("first-byte-far-1", "first byte over 50 ms, 1 peer/s", 1, 3),
		firstByteFarRow("first-byte-far-200", "first byte over 50 ms, 200 peers/s", 200, 0),
		bulkFarRow("bulk-far-up", "bulk over 50 ms, 1 stream up", false, 0),
		bulkFarRow("bulk-far-down", "bulk over 50 ms, 1 stream down", true, 0),
		bulkFarRow("bulk-far-loss-up", "bulk over 50 ms, 0.1 % lost, 1 stream up", false, farLoss),
		bulkFarRow("bulk-far-loss-down", "bulk over 50 ms, 0.1 % lost, 1 stream down", true, farLoss),
		idleRow(),
		loadedRow(),
		heldRow(),
	}
}

// rowNames returns the names of rows.
func rowNames(rows []row) []string {
	var all []string
	for _, r := range rows {
		all = append(all, r.name)
	}
	return all
}

func bulkRow(name, title string, streams int, down bool) row {
	mode := modeSink
	if down {
		mode = modeSource
	}
	return row{
		name: name, title: title, mode: mode, metrics: bulkMetrics,
		lasts: func(t times) time.Duration { return t.warmUp + t.bulk },
		measure: func(ctx context.Context, m *measurement) (outcome, error) {
			args := []string{
				fmt.Sprint("-connections=", streams), fmt.Sprint("-down=", down),
				fmt.Sprint("-warm-up=", m.times.warmUp), fmt.Sprint("-length=", m.times.bulk),
			}
			for host, pid := range m.pids {
				args = append(args, fmt.Sprintf("-pid=%s=%d", host, pid))
			}
			return m.load(ctx, loadBulk, args...)
		},
	}
}

// workers is how many peers make new connections at a time.
const workers = 64

func connectRow(name, title, mode, closing string, rounds int) row {
	return row{
		name: name, title: title, mode: mode, rounds: rounds, metrics: sustainedMetrics,
		lasts: func(t times) time.Duration { return t.sustained },
		measure: func(ctx context.Context, m *measurement) (outcome, error) {
			return m.load(ctx, loadConnect, fmt.Sprint("-connections=", workers), "-closing="+closing,
				fmt.Sprint("-length=", m.times.sustained), fmt.Sprint("-window=", m.times.window))
		},
	}
}

func echoRow(name, title string, connections int) row {
	return row{
		name: name, title: title, mode: modeEcho, metrics: echoMetrics,
		lasts: func(t times) time.Duration { return t.warmUp + t.echo },
		measure: func(ctx context.Context, m *measurement) (outcome, error) {
			return m.load(ctx, loadEcho, fmt.Sprint("-connections=", connections),
				fmt.Sprint("-warm-up=", m.times.warmUp), fmt.Sprint("-length=", m.times.echo))
		},
	}
}

func firstByteRow() row {
	return row{
		name: "first-byte", title: "first byte of a new connection, after idle", mode: modeEcho, metrics: firstByteMetrics,
		lasts: func(t times) time.Duration { return time.Duration(t.samples) * pause },
		measure: func(ctx context.Context, m *measurement) (outcome, error) {
			return m.load(ctx, loadFirstByte, fmt.Sprint("-samples=", m.times.samples))
		},
	}
}
