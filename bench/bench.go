package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"portredirector/bench/internal/load"
	"portredirector/bench/internal/report"
	"portredirector/bench/internal/world"
)

// bench measures, and prints the report.
func bench(ctx context.Context, std load.Streams, opts options) error {
	scratch := os.Getenv(world.EnvScratch)
	about := report.ReadAbout(ctx, scratch, opts.plan.Rounds, opts.quick)
	state, awake := keepAwake()
	defer func() { _ = awake.Close() }() // of a nil file it is an error, no more
	about.Idle = state
	about.Print(std.Stdout)
	fmt.Fprintf(std.Stdout, "This takes about %s.\n\n", opts.plan.Estimate().Round(10*time.Second))

	samples := opts.plan.Run(ctx, std.Stderr, scratch)
	result := report.New(opts.plan, samples)
	if len(samples) > 0 {
		result.Print(std.Stdout)
		report.PrintTargets(std.Stdout, result)
	}
	errs := []error{result.Failed(), context.Cause(ctx)}
	if opts.json != "" {
		errs = append(errs, report.WriteJSON(opts.json, about, samples))
	}
	return errors.Join(errs...)
}
