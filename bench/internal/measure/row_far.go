package measure

import (
	"context"
	"errors"
	"fmt"
	"time"

	"portredirector/bench/internal/contender"
	"portredirector/bench/internal/load"
	"portredirector/bench/internal/world"
	"portredirector/internal/testnet/far"
)

// FarRoundTrip is the round-trip time between M1 and M2 in these rows. The peers are near M1.
const FarRoundTrip = 50 * time.Millisecond

// farLoss is the share of packets that are dropped in the rows with loss.
const farLoss = 0.001

// farRate limits the path, in bits per second, to much less than two CPUs can forward in single packets.
const farRate = 400e6

// farPath returns the path between M1 and M2 in these rows.
func farPath(loss float64) far.Path {
	return far.Path{Delay: FarRoundTrip / 2, Rate: farRate, Loss: loss}
}

// firstByteFarRow measures how long a new peer waits. A link that is connected for the peer takes a round trip, and the first
// byte another one.
func firstByteFarRow(name, title string, rate, rounds int) Row {
	return arriveFarRow(name, title, load.KindArrive, rate, rounds)
}

// answerFarRow measures how long a new peer waits for the last byte of 100 KB. The congestion window of a new connection is small, so
// its answer takes several round trips. Contenders with and without secured links are in the same row.
func answerFarRow(name, title string, rate, rounds int) Row {
	r := arriveFarRow(name, title, load.KindAnswers, rate, rounds)
	r.mode, r.Secured = load.ModeAnswer, true
	return r
}

// arriveFarRow measures peers that arrive at a steady rate.
func arriveFarRow(name, title, kind string, rate, rounds int) Row {
	return Row{
		Subject: contender.Subject{Name: name}, Title: title, mode: load.ModeEcho, rounds: rounds, way: farPath(0),
		Metrics: []Metric{
			{Key: "p50-ms", Title: "p50", Unit: "ms", Digits: 2},
			{Key: "p99-ms", Title: "p99", Unit: "ms", Digits: 2},
			ErrorsMetric,
		},
		lasts: func(t times) time.Duration {
			return t.Far.WarmUp + time.Duration(t.Far.Samples[rate])*time.Second/time.Duration(rate)
		},
		measure: func(ctx context.Context, m *measurement) (load.Outcome, error) {
			return m.load(ctx, kind, fmt.Sprint("-rate=", rate), fmt.Sprint("-warm-up=", m.times.Far.WarmUp),
				fmt.Sprint("-samples=", m.times.Far.Samples[rate]))
		},
	}
}

// bulkFarRow measures one stream over a long distance.
func bulkFarRow(name, title string, down bool, loss float64) Row {
	r := Row{
		Subject: contender.Subject{Name: name}, Title: title, mode: load.ModeSink, rounds: 3, way: farPath(loss),
		Metrics: []Metric{{Key: "mbit", Title: "throughput", Unit: "Mbit/s"}},
		lasts:   func(t times) time.Duration { return t.Far.WarmUp + t.Far.Bulk },
		measure: measureFarUp,
	}
	if down {
		r.mode, r.measure = load.ModeSource, measureFarDown
	}
	return r
}

const (
	megabit     = 1e6 / 8 // in bytes
	megaPerGiga = 1e3
)

func measureFarDown(ctx context.Context, m *measurement) (load.Outcome, error) {
	o, err := m.load(ctx, load.KindBulk, "-down=true", fmt.Sprint("-warm-up=", m.times.Far.WarmUp), fmt.Sprint("-length=", m.times.Far.Bulk))
	if err != nil {
		return load.Outcome{}, err
	}
	return load.Outcome{Values: load.Values{"mbit": o.Values["gbit"] * megaPerGiga}}, nil
}

// measureFarUp counts the bytes that reach the service, since the buffers on the path are large and its rate is small.
func measureFarUp(ctx context.Context, m *measurement) (load.Outcome, error) {
	p, err := m.peers(ctx, load.KindBulk, fmt.Sprint("-length=", measureLimit))
	if err != nil {
		return load.Outcome{}, err
	}
	defer func() { _ = p.Kill() }()
	before, err := m.tallyAfter(ctx, m.times.Far.WarmUp, p)
	if err != nil {
		return load.Outcome{}, err
	}
	after, err := m.tallyAfter(ctx, m.times.Far.Bulk, p)
	if err != nil {
		return load.Outcome{}, err
	}
	if after.Bytes == before.Bytes {
		return load.Outcome{}, errors.New("no byte has arrived")
	}
	return load.Outcome{Values: load.Values{"mbit": float64(after.Bytes-before.Bytes) / megabit / (after.At - before.At).Seconds()}}, nil
}

// tallyAfter reads the service's tally after a time, or returns an error if the load ends before.
func (m *measurement) tallyAfter(ctx context.Context, d time.Duration, p *world.Process) (load.Tally, error) {
	select {
	case <-p.Ended:
		return load.Tally{}, p.Failure()
	case <-ctx.Done():
		return load.Tally{}, context.Cause(ctx)
	case <-time.After(d):
	}
	if err := m.service.Tell("tally"); err != nil {
		return load.Tally{}, err
	}
	return readTally(ctx, m.service)
}
