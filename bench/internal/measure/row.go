package measure

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"portredirector/bench/internal/contender"
	"portredirector/bench/internal/load"
	"portredirector/internal/testnet/far"
)

// Row is one kind of measurement.
type Row struct {
	contender.Subject
	Title   string
	mode    string // of the service
	Metrics []Metric
	// rounds is in how many rounds it is measured, at most; 0 means in all.
	rounds int
	// way is that between M1 and M2; without a delay it is a cable.
	way far.Path
	// lasts returns the time that measure takes, without starting and stopping things.
	lasts   func(t times) time.Duration
	measure func(ctx context.Context, m *measurement) (load.Outcome, error)
}

// Metrics that several rows have.
var (
	bulkMetrics = []Metric{
		{Key: "gbit", Title: "throughput", Unit: "Gbit/s", Digits: 2},
		{Key: "cpu", Title: "CPU time of both", Unit: "s/GB", Digits: 3},
	}
	sustainedMetrics = []Metric{
		{Key: "rate", Title: "all the time", Unit: "conn/s"},
		{Key: "rate-second", Title: "in the first second", Unit: "conn/s"},
		{Key: "rate-first", Title: "at first", Unit: "conn/s"},
		{Key: "rate-last", Title: "at last", Unit: "conn/s"},
		{Key: "p50-first", Title: "p50 at first", Unit: "µs"},
		{Key: "p50-last", Title: "p50 at last", Unit: "µs"},
		{Key: "p99-first", Title: "p99 at first", Unit: "µs"},
		{Key: "p99-last", Title: "p99 at last", Unit: "µs"},
		ErrorsMetric,
	}
	echoMetrics = []Metric{
		{Key: "rate", Title: "messages", Unit: "msg/s"},
		{Key: "p50", Title: "p50", Unit: "µs", Digits: 1},
		{Key: "p99", Title: "p99", Unit: "µs", Digits: 1},
	}
	firstByteMetrics = []Metric{
		{Key: "p50", Title: "p50", Unit: "µs"},
		{Key: "p99", Title: "p99", Unit: "µs"},
	}
	ErrorsMetric = Metric{Key: "errors", Title: "errors, worst round", Unit: "%", Digits: 2, Worst: true}
)

// AllRows returns all rows, in the order of the tables.
func AllRows() []Row { return slices.Concat(PlainRows(), securedRows(), datagramRows()) }

// PlainRows returns the rows that are measured by default.
func PlainRows() []Row {
	return []Row{
		bulkRow("bulk-1-up", "bulk, 1 stream up", 1, false),
		bulkRow("bulk-1-down", "bulk, 1 stream down", 1, true),
		bulkRow("bulk-16-up", "bulk, 16 streams up", 16, false),
		bulkRow("bulk-16-down", "bulk, 16 streams down", 16, true),
		connectRow("conn-reset", "new connections, peers reset", load.ModeEcho, load.ClosingReset, 0),
		connectRow("conn-peer-fin", "new connections, peers close first", load.ModeEcho, load.ClosingPeer, 0),
		connectRow("conn-service-fin", "new connections, service closes first", load.ModeClose, load.ClosingService, 3),
		echoRow("echo-1", "64 B echo, 1 connection", 1),
		echoRow("echo-64", "64 B echo, 64 connections", 64),
		firstByteRow(),
		firstByteFarRow("first-byte-far-1", "first byte over 50 ms, 1 peer/s", 1, 3),
		firstByteFarRow("first-byte-far-200", "first byte over 50 ms, 200 peers/s", 200, 0),
		answerFarRow("answer-far-1", "100 KB over 50 ms, 1 peer/s", 1, 2),
		answerFarRow("answer-far-50", "100 KB over 50 ms, 50 peers/s", 50, 3),
		bulkFarRow("bulk-far-up", "bulk over 50 ms, 1 stream up", false, 0),
		bulkFarRow("bulk-far-down", "bulk over 50 ms, 1 stream down", true, 0),
		bulkFarRow("bulk-far-loss-up", "bulk over 50 ms, 0.1 % lost, 1 stream up", false, farLoss),
		bulkFarRow("bulk-far-loss-down", "bulk over 50 ms, 0.1 % lost, 1 stream down", true, farLoss),
		idleRow(),
		loadedRow(),
		heldRow(),
	}
}

// RowNames returns the names of rows.
func RowNames(rows []Row) []string {
	var all []string
	for _, r := range rows {
		all = append(all, r.Name)
	}
	return all
}

// MatchingRows returns the rows whose names match.
func MatchingRows(expr string) ([]Row, error) {
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, err
	}
	rows := slices.DeleteFunc(AllRows(), func(r Row) bool { return !re.MatchString(r.Name) })
	if len(rows) == 0 {
		return nil, fmt.Errorf("none of %s matches", strings.Join(RowNames(AllRows()), ", "))
	}
	return rows, nil
}
