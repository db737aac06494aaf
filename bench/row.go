package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"portredirector/internal/testnet/far"
)

// row is one kind of measurement.
type row struct {
	subject
	title   string
	mode    string // of the service
	metrics []metric
	// rounds is in how many rounds it is measured, at most; 0 means in all.
	rounds int
	// way is that between M1 and M2; without a delay it is a cable.
	way far.Path
	// lasts is how long measure takes, but for starting and stopping things.
	lasts   func(t times) time.Duration
	measure func(ctx context.Context, m *measurement) (outcome, error)
}

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

// matchingRows returns the rows whose names match.
func matchingRows(expr string) ([]row, error) {
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, err
	}
	rows := slices.DeleteFunc(allRows(), func(r row) bool { return !re.MatchString(r.name) })
	if len(rows) == 0 {
		return nil, fmt.Errorf("none of %s matches", strings.Join(rowNames(allRows()), ", "))
	}
	return rows, nil
}
