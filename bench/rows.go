package main

import (
	"context"
	"fmt"
	"time"
)

func bulkRow(name, title string, streams int, down bool) row {
	mode := modeSink
	if down {
		mode = modeSource
	}
	return row{
		subject: subject{name: name}, title: title, mode: mode, metrics: bulkMetrics,
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
		subject: subject{name: name}, title: title, mode: mode, rounds: rounds, metrics: sustainedMetrics,
		lasts: func(t times) time.Duration { return t.sustained },
		measure: func(ctx context.Context, m *measurement) (outcome, error) {
			return m.load(ctx, loadConnect, fmt.Sprint("-connections=", workers), "-closing="+closing,
				fmt.Sprint("-length=", m.times.sustained), fmt.Sprint("-window=", m.times.window))
		},
	}
}

func echoRow(name, title string, connections int) row {
	return row{
		subject: subject{name: name}, title: title, mode: modeEcho, metrics: echoMetrics,
		lasts: func(t times) time.Duration { return t.warmUp + t.echo },
		measure: func(ctx context.Context, m *measurement) (outcome, error) {
			return m.load(ctx, loadEcho, fmt.Sprint("-connections=", connections),
				fmt.Sprint("-warm-up=", m.times.warmUp), fmt.Sprint("-length=", m.times.echo))
		},
	}
}

func firstByteRow() row {
	return row{
		subject: subject{name: "first-byte"}, title: "first byte of a new connection, after idle", mode: modeEcho, metrics: firstByteMetrics,
		lasts: func(t times) time.Duration { return time.Duration(t.samples) * pause },
		measure: func(ctx context.Context, m *measurement) (outcome, error) {
			return m.load(ctx, loadFirstByte, fmt.Sprint("-samples=", m.times.samples))
		},
	}
}
