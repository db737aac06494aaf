package main

import (
	"flag"
	"fmt"
	"strings"
)

// options are the command line, and what follows from it.
type options struct {
	plan   plan
	json   string // a file for the samples
	binary string // the product, if it need not be built
	quick  bool
}

// parseOptions reads the command line.
func parseOptions(e env, args []string) (options, error) {
	opts := options{plan: plan{times: fullTimes}}
	var contenders string
	all := strings.Join(names(allContenders()), ",")
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(e.stderr)
	f.IntVar(&opts.plan.rounds, "rounds", 5, "how often to measure everything")
	f.StringVar(&opts.json, "json", "", "write all samples to this `file`")
	f.StringVar(&opts.binary, "binary", "", "the portredirector to measure, in place of building one")
	f.BoolVar(&opts.quick, "quick", false, "one short round, to see that it works")
	f.StringVar(&contenders, "contenders", strings.Join(names(allContenders()[:defaultContenders]), ","), "a `list` of "+all)
	f.Func("rows", "measure the rows that match this `regexp` (default all without -tls at the end): "+strings.Join(rowNames(allRows()), ", "), func(s string) (err error) {
		opts.plan.rows, err = matchingRows(s)
		return err
	})
	if err := f.Parse(args); err != nil {
		return options{}, err
	}
	err := func() (err error) {
		if opts.plan.contenders, err = contendersByName(contenders); err != nil {
			return err
		}
		if f.NArg() > 0 || opts.plan.rounds < 1 {
			return fmt.Errorf("-rounds takes at least 1, and there are no arguments: %q", f.Args())
		}
		return nil
	}()
	if err != nil {
		fmt.Fprintln(e.stderr, "bench:", err)
		return options{}, err
	}
	if opts.plan.rows == nil {
		opts.plan.rows = plainRows()
	}
	if opts.quick {
		opts.plan.rounds, opts.plan.times = 1, quickTimes
	}
	return opts, nil
}
