package main

import (
	"flag"
	"fmt"
	"strings"

	"portredirector/bench/internal/contender"
	"portredirector/bench/internal/load"
	"portredirector/bench/internal/measure"
)

// options are the parsed command line.
type options struct {
	plan   measure.Plan
	json   string // a file for the samples
	binary string // the product, if it need not be built
	before string // an earlier one to compare with
	quick  bool
}

// parseOptions reads the command line.
func parseOptions(std load.Streams, args []string) (options, error) {
	opts := options{plan: measure.Plan{Times: measure.FullTimes}}
	var contenders string
	all := strings.Join(contender.Names(contender.All()), ",")
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(std.Stderr)
	f.IntVar(&opts.plan.Rounds, "rounds", 5, "how often to measure everything")
	f.StringVar(&opts.json, "json", "", "write all samples to this `file`")
	f.StringVar(&opts.binary, "binary", "", "the portredirector to measure, in place of building one")
	f.StringVar(&opts.before, "before", "", "an earlier portredirector to measure, too, as contenders that end in "+contender.Before)
	f.BoolVar(&opts.quick, "quick", false, "one short round, to see that it works")
	f.StringVar(&contenders, "contenders", strings.Join(contender.Names(contender.All()[:contender.DefaultCount]), ","), "a `list` of "+all)
	f.Func("rows", "measure the rows that match this `regexp` (default all without -tls at the end): "+strings.Join(measure.RowNames(measure.AllRows()), ", "), func(s string) (err error) {
		opts.plan.Rows, err = measure.MatchingRows(s)
		return err
	})
	if err := f.Parse(args); err != nil {
		return options{}, err
	}
	err := func() (err error) {
		if opts.plan.Contenders, err = contender.ByName(contenders); err != nil {
			return err
		}
		if f.NArg() > 0 || opts.plan.Rounds < 1 {
			return fmt.Errorf("-rounds takes at least 1, and there are no arguments: %q", f.Args())
		}
		return nil
	}()
	if err != nil {
		fmt.Fprintln(std.Stderr, "bench:", err)
		return options{}, err
	}
	if opts.before != "" {
		opts.plan.Contenders = contender.WithBefore(opts.plan.Contenders)
	}
	if opts.plan.Rows == nil {
		opts.plan.Rows = measure.PlainRows()
	}
	if opts.quick {
		opts.plan.Rounds, opts.plan.Times = 1, measure.QuickTimes
	}
	return opts, nil
}
