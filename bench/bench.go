package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// sample is one measurement of one row with one contender.
type sample struct {
	Round     int    `json:"round"`
	Row       string `json:"row"`
	Contender string `json:"contender"`
	outcome
	// Failure is why there are no values, or not all of them.
	Failure string `json:"failure,omitempty"`
}

// bench is the benchmark: it measures, and reports.
func bench(ctx context.Context, e env, opts options) error {
	scratch := os.Getenv(envScratch)
	about := look(ctx, scratch, opts)
	state, awake := keepAwake()
	defer func() { _ = awake.Close() }() // of a nil file it is an error, no more
	about.Idle = state
	about.print(e.stdout)
	fmt.Fprintf(e.stdout, "This takes about %s.\n\n", estimate(opts).Round(10*time.Second))

	samples := measureAll(ctx, e.stderr, scratch, opts)
	report := newReport(opts, samples)
	if len(samples) > 0 {
		report.print(e.stdout)
		printTargets(e.stdout, report)
	}
	errs := []error{report.failed(), context.Cause(ctx)}
	if opts.json != "" {
		errs = append(errs, writeJSON(opts.json, about, samples))
	}
	return errors.Join(errs...)
}

// measureAll measures every row with every contender, round by round. Within a
// row the contenders take turns, and in each round another one begins. It ends
// early with ctx.
func measureAll(ctx context.Context, progress io.Writer, scratch string, opts options) []sample {
	var samples []sample
	for round := range opts.rounds {
		for _, r := range opts.rows {
			r.way.Seed = uint64(round) // a way treats all contenders of a round alike
			for i := range opts.contenders {
				c := opts.contenders[(i+round)%len(opts.contenders)]
				if !due(r, c, round) {
					continue
				}
				if ctx.Err() != nil {
					return samples
				}
				s := sample{Round: round + 1, Row: r.name, Contender: c.Name()}
				var err error
				if s.outcome, err = measure(ctx, scratch, opts.times, r, c); err != nil {
					s.Failure = strings.ReplaceAll(err.Error(), "\n", "; ")
				}
				if ctx.Err() != nil {
					return samples // the measurement was cut, which is no failure
				}
				time.Sleep(rest)
				fmt.Fprintf(progress, "%s round %d/%d %-17s %-21s %s\n",
					time.Now().Format(time.TimeOnly), s.Round, opts.rounds, s.Row, s.Contender, s.brief(r))
				samples = append(samples, s)
			}
		}
	}
	return samples
}

// due reports whether a row is measured with a contender in a round.
func due(r row, c contender, round int) bool {
	if r.rounds > 0 && round >= r.rounds {
		return false
	}
	p, ok := c.(picky)
	return !ok || p.Takes(r, round)
}

// brief is the sample in one line: the first metric.
func (s sample) brief(r row) string {
	if s.Failure != "" {
		return "n/a: " + s.Failure
	}
	first := r.metrics[0]
	text := first.format(s.Values[first.key]) + " " + first.unit
	if s.Problem != "" {
		text += " (" + s.Problem + ")"
	}
	return text
}

// rest is for the kernel, which gives up the hosts and their connections in the
// background, before the next measurement.
const rest = 200 * time.Millisecond

// overhead is what a measurement takes beside the row's own time: to build and
// to give up the hosts, and to start and stop things in them.
const overhead = rest + 400*time.Millisecond

// estimate is how long all of it takes.
func estimate(opts options) time.Duration {
	var all time.Duration
	for round := range opts.rounds {
		for _, r := range opts.rows {
			for _, c := range opts.contenders {
				if due(r, c, round) {
					all += r.lasts(opts.times) + overhead
				}
			}
		}
	}
	return all
}
