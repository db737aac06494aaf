package main

import (
	"flag"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// options are the command line, and what follows from it.
type options struct {
	rounds     int
	rows       []row
	contenders []contender
	json       string // a file for the samples
	binary     string // the product, if it need not be built
	quick      bool
	times      times
}

// times say how long things take.
type times struct {
	warmUp    time.Duration // before a window in which bytes or echoes are counted
	bulk      time.Duration // that window, for bytes
	echo      time.Duration // and for echoes
	sustained time.Duration // of the rows with new connections all the time
	window    time.Duration // their beginning and their end, which are shown apart
	burst     time.Duration // of new connections beside idle ones
	settle    time.Duration // before memory is read
	samples   int           // of a first byte
	far       farTimes
}

// farTimes are those of the rows in which M1 and M2 are far from each other.
type farTimes struct {
	warmUp  time.Duration // until a stream is as fast as it gets, and a pool as large
	bulk    time.Duration // the window after that, for bytes
	samples map[int]int   // of a first byte, by the rate at which peers come
}

var (
	fullTimes = times{
		warmUp: 500 * time.Millisecond, bulk: 4 * time.Second, echo: 3 * time.Second,
		sustained: 30 * time.Second, window: 5 * time.Second, burst: 5 * time.Second,
		settle: 3 * time.Second, samples: 100,
		far: farTimes{warmUp: 3 * time.Second, bulk: 8 * time.Second, samples: map[int]int{1: 30, 200: 1000}},
	}
	quickTimes = times{
		warmUp: 300 * time.Millisecond, bulk: time.Second, echo: time.Second,
		sustained: 6 * time.Second, window: 2 * time.Second, burst: 2 * time.Second,
		settle: time.Second, samples: 25,
		far: farTimes{warmUp: time.Second, bulk: 2 * time.Second, samples: map[int]int{1: 5, 200: 400}},
	}
)

// parseOptions reads the command line.
func parseOptions(e env, args []string) (options, error) {
	opts := options{times: fullTimes}
	var contenders string
	all := strings.Join(names(allContenders()), ",")
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(e.stderr)
	f.IntVar(&opts.rounds, "rounds", 5, "how often to measure everything")
	f.StringVar(&opts.json, "json", "", "write all samples to this `file`")
	f.StringVar(&opts.binary, "binary", "", "the portredirector to measure, in place of building one")
	f.BoolVar(&opts.quick, "quick", false, "one short round, to see that it works")
	f.StringVar(&contenders, "contenders", strings.Join(names(allContenders()[:defaultContenders]), ","), "a `list` of "+all)
	f.Func("rows", "measure the rows that match this `regexp` (default all without -tls at the end): "+strings.Join(rowNames(allRows()), ", "), func(s string) (err error) {
		opts.rows, err = matchingRows(s)
		return err
	})
	if err := f.Parse(args); err != nil {
		return options{}, err
	}
	err := func() (err error) {
		if opts.contenders, err = contendersByName(contenders); err != nil {
			return err
		}
		if f.NArg() > 0 || opts.rounds < 1 {
			return fmt.Errorf("-rounds takes at least 1, and there are no arguments: %q", f.Args())
		}
		return nil
	}()
	if err != nil {
		fmt.Fprintln(e.stderr, "bench:", err)
		return options{}, err
	}
	if opts.rows == nil {
		opts.rows = plainRows()
	}
	if opts.quick {
		opts.rounds, opts.times = 1, quickTimes
	}
	return opts, nil
}

// matchingRows returns the rows whose names match.
func matchingRows(expr string) ([]row, error) {
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, err
	}
	rows := slices.DeleteFunc(allRows(), func(r row) bool { return !re.MatchString(r.name) })
	if len(rows) == 0 {
		return nil, fmt.Errorf("none of %s matches", strings.Join(rowNames(allRows()), ", "))
	}
	return rows, nil
}

// contendersByName returns the contenders of a comma-separated list.
func contendersByName(list string) ([]contender, error) {
	var found []contender
	for name := range strings.SplitSeq(list, ",") {
		all := allContenders()
		i := slices.IndexFunc(all, func(c contender) bool { return c.Name() == name })
		if i < 0 {
			return nil, fmt.Errorf("no contender %q; there are %s", name, strings.Join(names(all), ", "))
		}
		found = append(found, all[i])
	}
	return found, nil
}
