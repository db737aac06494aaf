package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"
)

// The numbers of idle peers.
const (
	fewPeers  = 1000
	manyPeers = 5000
	mostPeers = 9500 // with two descriptors each, within 20,000
	// firstPeers come and go before memory is read for the first time, so that
	// what a program loads and allocates once is not put down to its peers.
	firstPeers = 64
)

// idleRow is about what an idle peer costs.
func idleRow() row {
	r := row{
		subject: subject{name: "idle", proxies: true}, title: "idle peers", mode: modeEcho, rounds: 3,
		lasts:   func(t times) time.Duration { return 3*t.settle + 2*time.Second },
		measure: measureIdle,
	}
	for _, n := range []int{fewPeers, manyPeers} {
		for _, host := range []string{onM1, onM2} {
			at := fmt.Sprintf("%s, of %s", host, group(fmt.Sprint(n)))
			r.metrics = append(r.metrics,
				metric{key: idleKey("rss", host, n), title: "RSS each on " + at, unit: "KB", digits: 2},
				metric{key: idleKey("pss", host, n), title: "PSS each on " + at, unit: "KB", digits: 2},
				metric{key: idleKey("fds", host, n), title: "descriptors each on " + at, digits: 2})
		}
	}
	return r
}

// idleKey is the key of a metric of idleRow.
func idleKey(what, host string, n int) string { return fmt.Sprintf("%s-%s-%d", what, host, n) }

func measureIdle(ctx context.Context, m *measurement) (outcome, error) {
	h, err := m.holder(ctx)
	if err != nil {
		return outcome{}, err
	}
	defer h.end()
	if err := errors.Join(h.hold(ctx, firstPeers), h.drop(ctx)); err != nil {
		return outcome{}, err
	}
	before, err := m.held(ctx)
	if err != nil {
		return outcome{}, err
	}
	o := outcome{Values: make(values)}
	for _, n := range []int{fewPeers, manyPeers} {
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
			o.Values[idleKey("rss", host, n)] = each(now[host].rss, before[host].rss) / kb
			o.Values[idleKey("pss", host, n)] = each(now[host].pss, before[host].pss) / kb
			o.Values[idleKey("fds", host, n)] = each(now[host].descriptors, before[host].descriptors)
		}
	}
	return o, nil
}

// held returns what the contender's processes hold once all has settled. Their
// garbage collectors are left alone.
func (m *measurement) held(ctx context.Context) (map[string]usage, error) {
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(m.times.settle):
	}
	all := make(map[string]usage)
	for host, pid := range m.pids {
		u, err := held(pid)
		if err != nil {
			return nil, err
		}
		all[host] = u
	}
	return all, nil
}

// loadedRow is about new peers while many idle ones are there.
func loadedRow() row {
	return row{
		subject: subject{name: "loaded"}, title: "beside 5,000 idle peers", mode: modeEcho, rounds: 3,
		metrics: []metric{
			{key: "rate", title: "new connections, peers reset", unit: "conn/s"},
			{key: "p50", title: "their p50", unit: "µs"},
			{key: "p99", title: "their p99", unit: "µs"},
			errorsMetric,
			{key: "first-p50", title: "first byte p50", unit: "µs"},
			{key: "first-p99", title: "first byte p99", unit: "µs"},
		},
		lasts: func(t times) time.Duration {
			return 2*time.Second + t.burst + time.Duration(t.samples)*pause
		},
		measure: func(ctx context.Context, m *measurement) (outcome, error) {
			h, err := m.holder(ctx)
			if err != nil {
				return outcome{}, err
			}
			defer h.end()
			if err := h.hold(ctx, manyPeers); err != nil {
				return outcome{}, err
			}
			first, err := m.load(ctx, loadFirstByte, fmt.Sprint("-samples=", m.times.samples))
			if err != nil {
				return outcome{}, err
			}
			all, err := m.load(ctx, loadConnect, fmt.Sprint("-connections=", workers), fmt.Sprint("-length=", m.times.burst))
			if err != nil {
				return outcome{}, err
			}
			all.Values = maps.Clone(all.Values)
			for key, v := range first.Values {
				all.Values["first-"+key] = v
			}
			return all, nil
		},
	}
}

// heldRow is about as many peers as two descriptors each allow.
func heldRow() row {
	return row{
		subject: subject{name: "held"}, title: "9,500 peers at once", mode: modeEcho, rounds: 1,
		metrics: []metric{{key: "failed", title: "an echo on each", worst: true, text: lostPeers}},
		lasts:   func(t times) time.Duration { return 4*time.Second + t.settle },
		measure: func(ctx context.Context, m *measurement) (outcome, error) {
			h, err := m.holder(ctx)
			if err != nil {
				return outcome{}, err
			}
			defer h.end()
			opened, err := h.command(ctx, fmt.Sprint(commandHold, " ", mostPeers))
			if err != nil {
				return outcome{}, err
			}
			select {
			case <-ctx.Done():
				return outcome{}, context.Cause(ctx)
			case <-time.After(m.times.settle):
			}
			checked, err := h.command(ctx, commandCheck)
			if err != nil {
				return outcome{}, err
			}
			o := outcome{
				Values:  values{"failed": opened.Values["failed"] + checked.Values["failed"]},
				Problem: opened.Problem,
			}
			if o.Problem == "" {
				o.Problem = checked.Problem
			}
			return o, nil
		},
	}
}
