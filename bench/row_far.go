package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"portredirector/internal/testnet/far"
)

// farRoundTrip is how long a round trip between M1 and M2 takes where they are
// far from each other. The peers are near M1.
const farRoundTrip = 50 * time.Millisecond

// farLoss is the share of packets that a bad way loses.
const farLoss = 0.001

// farRate is what goes over the way, in bits a second: a good line, and well below
// what the two processors can carry in single packets.
const farRate = 400e6

// farPath returns the path between M1 and M2 in these rows.
func farPath(loss float64) far.Path {
	return far.Path{Delay: farRoundTrip / 2, Rate: farRate, Loss: loss}
}

// firstByteFarRow is about how long a new peer waits. Whoever connects a link
// when the peer is there pays a round trip for that, and another one for the
// first byte.
func firstByteFarRow(name, title string, rate, rounds int) row {
	return row{
		name: name, title: title, mode: modeEcho, rounds: rounds, way: farPath(0),
		metrics: []metric{
			{key: "p50-ms", title: "p50", unit: "ms", digits: 2},
			{key: "p99-ms", title: "p99", unit: "ms", digits: 2},
			errorsMetric,
		},
		lasts: func(t times) time.Duration {
			return t.far.warmUp + time.Duration(t.far.samples[rate])*time.Second/time.Duration(rate)
		},
		measure: func(ctx context.Context, m *measurement) (outcome, error) {
			return m.load(ctx, loadArrive, fmt.Sprint("-rate=", rate), fmt.Sprint("-warm-up=", m.times.far.warmUp),
				fmt.Sprint("-samples=", m.times.far.samples[rate]))
		},
	}
}

// bulkFarRow is about one stream over a distance, beside the plain connection
// that direct is.
func bulkFarRow(name, title string, down bool, loss float64) row {
	r := row{
		name: name, title: title, mode: modeSink, rounds: 3, way: farPath(loss),
		metrics: []metric{{key: "mbit", title: "throughput", unit: "Mbit/s"}},
		lasts:   func(t times) time.Duration { return t.far.warmUp + t.far.bulk },
		measure: measureFarUp,
	}
	if down {
		r.mode, r.measure = modeSource, measureFarDown
	}
	return r
}

const (
	megabit     = 1e6 / 8 // in bytes
	megaPerGiga = 1e3
)

func measureFarDown(ctx context.Context, m *measurement) (outcome, error) {
	o, err := m.load(ctx, loadBulk, "-down=true", fmt.Sprint("-warm-up=", m.times.far.warmUp), fmt.Sprint("-length=", m.times.far.bulk))
	if err != nil {
		return outcome{}, err
	}
	return outcome{Values: values{"mbit": o.Values["gbit"] * megaPerGiga}}, nil
}

// measureFarUp counts what comes to the service. What a peer has sent may be in
// buffers on the way, and here these are large and the rate is small.
func measureFarUp(ctx context.Context, m *measurement) (outcome, error) {
	p, err := m.peers(ctx, loadBulk, fmt.Sprint("-length=", measureLimit))
	if err != nil {
		return outcome{}, err
	}
	defer func() { _ = p.kill() }()
	before, err := m.tallyAfter(ctx, m.times.far.warmUp, p)
	if err != nil {
		return outcome{}, err
	}
	after, err := m.tallyAfter(ctx, m.times.far.bulk, p)
	if err != nil {
		return outcome{}, err
	}
	if after.Bytes == before.Bytes {
		return outcome{}, errors.New("no byte has arrived")
	}
	return outcome{Values: values{"mbit": float64(after.Bytes-before.Bytes) / megabit / (after.At - before.At).Seconds()}}, nil
}

// tallyAfter asks what the service has seen some time from now, unless a load
// ends before that.
func (m *measurement) tallyAfter(ctx context.Context, d time.Duration, load *process) (tally, error) {
	select {
	case <-load.ended:
		return tally{}, load.failure()
	case <-ctx.Done():
		return tally{}, context.Cause(ctx)
	case <-time.After(d):
	}
	if err := m.service.tell("tally"); err != nil {
		return tally{}, err
	}
	return readTally(ctx, m.service)
}
