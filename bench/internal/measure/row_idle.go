package measure

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"portredirector/bench/internal/contender"
	"portredirector/bench/internal/load"
	"portredirector/bench/internal/world"
)

// The numbers of idle peers.
const (
	FewPeers  = 1000
	ManyPeers = 5000
	mostPeers = 9500 // with two descriptors each, within 20,000
	// firstPeers come and go before memory is read for the first time, so that the memory that a program allocates once does not
	// count for its peers.
	firstPeers = 64
)

// idleRow measures memory and descriptors of idle peers.
func idleRow() Row {
	r := Row{
		Subject: contender.Subject{Name: "idle", Proxies: true}, Title: "idle peers", mode: load.ModeEcho, rounds: 3,
		lasts: func(t times) time.Duration { return 3*t.settle + 2*time.Second },
		measure: func(ctx context.Context, m *measurement) (load.Outcome, error) {
			return measureIdle(ctx, m, load.KindHold)
		},
	}
	for _, n := range []int{FewPeers, ManyPeers} {
		for _, host := range []string{contender.OnM1, contender.OnM2} {
			at := fmt.Sprintf("%s, of %s", host, group(fmt.Sprint(n)))
			r.Metrics = append(r.Metrics,
				Metric{Key: IdleKey("rss", host, n), Title: "RSS each on " + at, Unit: "KB", Digits: 2},
				Metric{Key: IdleKey("pss", host, n), Title: "PSS each on " + at, Unit: "KB", Digits: 2},
				Metric{Key: IdleKey("fds", host, n), Title: "descriptors each on " + at, Digits: 2})
		}
	}
	return r
}

// IdleKey returns the key of a metric of the row about idle peers.
func IdleKey(what, host string, n int) string { return fmt.Sprintf("%s-%s-%d", what, host, n) }

func measureIdle(ctx context.Context, m *measurement, kind string) (load.Outcome, error) {
	h, err := m.holder(ctx, kind)
	if err != nil {
		return load.Outcome{}, err
	}
	defer h.end()
	if err := errors.Join(h.hold(ctx, firstPeers), h.drop(ctx)); err != nil {
		return load.Outcome{}, err
	}
	before, err := m.held(ctx)
	if err != nil {
		return load.Outcome{}, err
	}
	o := load.Outcome{Values: make(load.Values)}
	for _, n := range []int{FewPeers, ManyPeers} {
		if err := h.hold(ctx, n); err != nil {
			return o, err // with what there is of fewer peers
		}
		now, err := m.held(ctx)
		if err != nil {
			return o, err
		}
		for host := range m.pids {
			each := func(now, before float64) float64 { return (now - before) / float64(n) }
			const kb = 1024
			o.Values[IdleKey("rss", host, n)] = each(now[host].Rss, before[host].Rss) / kb
			o.Values[IdleKey("pss", host, n)] = each(now[host].Pss, before[host].Pss) / kb
			o.Values[IdleKey("fds", host, n)] = each(now[host].Descriptors, before[host].Descriptors)
		}
	}
	return o, nil
}

// held returns the usage of the contender's processes after it has settled. It does not force garbage collection.
func (m *measurement) held(ctx context.Context) (map[string]world.Usage, error) {
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(m.times.settle):
	}
	all := make(map[string]world.Usage)
	for host, pid := range m.pids {
		u, err := world.ReadUsage(pid)
		if err != nil {
			return nil, err
		}
		all[host] = u
	}
	return all, nil
}

// loadedRow measures new peers beside many idle ones.
func loadedRow() Row {
	return Row{
		Subject: contender.Subject{Name: "loaded"}, Title: "beside 5,000 idle peers", mode: load.ModeEcho, rounds: 3,
		Metrics: []Metric{
			{Key: "rate", Title: "new connections, peers reset", Unit: "conn/s"},
			{Key: "p50", Title: "their p50", Unit: "µs"},
			{Key: "p99", Title: "their p99", Unit: "µs"},
			ErrorsMetric,
			{Key: "first-p50", Title: "first byte p50", Unit: "µs"},
			{Key: "first-p99", Title: "first byte p99", Unit: "µs"},
		},
		lasts: func(t times) time.Duration {
			return 2*time.Second + t.burst + time.Duration(t.samples)*load.Pause
		},
		measure: func(ctx context.Context, m *measurement) (load.Outcome, error) {
			h, err := m.holder(ctx, load.KindHold)
			if err != nil {
				return load.Outcome{}, err
			}
			defer h.end()
			if err := h.hold(ctx, ManyPeers); err != nil {
				return load.Outcome{}, err
			}
			first, err := m.load(ctx, load.KindFirstByte, fmt.Sprint("-samples=", m.times.samples))
			if err != nil {
				return load.Outcome{}, err
			}
			all, err := m.load(ctx, load.KindConnect, fmt.Sprint("-connections=", workers), fmt.Sprint("-length=", m.times.burst))
			if err != nil {
				return load.Outcome{}, err
			}
			all.Values = maps.Clone(all.Values)
			for key, v := range first.Values {
				all.Values["first-"+key] = v
			}
			return all, nil
		},
	}
}

// heldRow measures as many peers as the descriptors allow.
func heldRow() Row {
	return Row{
		Subject: contender.Subject{Name: "held"}, Title: "9,500 peers at once", mode: load.ModeEcho, rounds: 1,
		Metrics: []Metric{{Key: "failed", Title: "an echo on each", Worst: true, Text: LostPeers}},
		lasts:   func(t times) time.Duration { return 4*time.Second + t.settle },
		measure: func(ctx context.Context, m *measurement) (load.Outcome, error) {
			return measureHeld(ctx, m, load.KindHold, mostPeers)
		},
	}
}

// measureHeld has n peers come, wait and talk again, and counts those that are not served.
func measureHeld(ctx context.Context, m *measurement, kind string, n int) (load.Outcome, error) {
	h, err := m.holder(ctx, kind)
	if err != nil {
		return load.Outcome{}, err
	}
	defer h.end()
	opened, err := h.command(ctx, fmt.Sprint(load.CommandHold, " ", n))
	if err != nil {
		return load.Outcome{}, err
	}
	select {
	case <-ctx.Done():
		return load.Outcome{}, context.Cause(ctx)
	case <-time.After(m.times.settle):
	}
	checked, err := h.command(ctx, load.CommandCheck)
	if err != nil {
		return load.Outcome{}, err
	}
	o := load.Outcome{
		Values:  load.Values{"failed": opened.Values["failed"] + checked.Values["failed"]},
		Problem: opened.Problem,
	}
	if o.Problem == "" {
		o.Problem = checked.Problem
	}
	return o, nil
}
