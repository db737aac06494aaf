package measure

import (
	"context"
	"fmt"
	"time"

	"portredirector/bench/internal/contender"
	"portredirector/bench/internal/load"
)

func bulkRow(name, title string, streams int, down bool) Row {
	mode := load.ModeSink
	if down {
		mode = load.ModeSource
	}
	return Row{
		Subject: contender.Subject{Name: name}, Title: title, mode: mode, Metrics: bulkMetrics,
		lasts: func(t times) time.Duration { return t.warmUp + t.Bulk },
		measure: func(ctx context.Context, m *measurement) (load.Outcome, error) {
			args := []string{
				fmt.Sprint("-connections=", streams), fmt.Sprint("-down=", down),
				fmt.Sprint("-warm-up=", m.times.warmUp), fmt.Sprint("-length=", m.times.Bulk),
			}
			for host, pid := range m.pids {
				args = append(args, fmt.Sprintf("-pid=%s=%d", host, pid))
			}
			return m.load(ctx, load.KindBulk, args...)
		},
	}
}

// workers is the number of peers that connect at a time.
const workers = 64

func connectRow(name, title, mode, closing string, rounds int) Row {
	return Row{
		Subject: contender.Subject{Name: name}, Title: title, mode: mode, rounds: rounds, Metrics: sustainedMetrics,
		lasts: func(t times) time.Duration { return t.Sustained },
		measure: func(ctx context.Context, m *measurement) (load.Outcome, error) {
			return m.load(ctx, load.KindConnect, fmt.Sprint("-connections=", workers), "-closing="+closing,
				fmt.Sprint("-length=", m.times.Sustained), fmt.Sprint("-window=", m.times.Window))
		},
	}
}

func echoRow(name, title string, connections int) Row {
	return Row{
		Subject: contender.Subject{Name: name}, Title: title, mode: load.ModeEcho, Metrics: echoMetrics,
		lasts: func(t times) time.Duration { return t.warmUp + t.Echo },
		measure: func(ctx context.Context, m *measurement) (load.Outcome, error) {
			return m.load(ctx, load.KindEcho, fmt.Sprint("-connections=", connections),
				fmt.Sprint("-warm-up=", m.times.warmUp), fmt.Sprint("-length=", m.times.Echo))
		},
	}
}

func firstByteRow() Row {
	return Row{
		Subject: contender.Subject{Name: "first-byte"}, Title: "first byte of a new connection, after idle", mode: load.ModeEcho, Metrics: firstByteMetrics,
		lasts: func(t times) time.Duration { return time.Duration(t.samples) * load.Pause },
		measure: func(ctx context.Context, m *measurement) (load.Outcome, error) {
			return m.load(ctx, load.KindFirstByte, fmt.Sprint("-samples=", m.times.samples))
		},
	}
}
