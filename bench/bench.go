package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// bench is the benchmark: it measures, and reports.
func bench(ctx context.Context, e env, opts options) error {
	scratch := os.Getenv(envScratch)
	about := look(ctx, scratch, opts.plan.rounds, opts.quick)
	state, awake := keepAwake()
	defer func() { _ = awake.Close() }() // of a nil file it is an error, no more
	about.Idle = state
	about.print(e.stdout)
	fmt.Fprintf(e.stdout, "This takes about %s.\n\n", opts.plan.estimate().Round(10*time.Second))

	samples := opts.plan.run(ctx, e.stderr, scratch)
	report := newReport(opts.plan, samples)
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
