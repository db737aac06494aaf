package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// plan says what to measure.
type plan struct {
	rounds     int
	rows       []row
	contenders []contender
	times      times
}

// sample is one measurement of a row with a contender.
type sample struct {
	Round     int    `json:"round"`
	Row       string `json:"row"`
	Contender string `json:"contender"`
	outcome
	// Failure says why values are missing.
	Failure string `json:"failure,omitempty"`
}

// run measures every row with every contender, round by round. Within a row the contenders take turns, and each round starts
// with another one. It returns early when ctx is canceled.
func (p plan) run(ctx context.Context, progress io.Writer, scratch string) []sample {
	var samples []sample
	for round := range p.rounds {
		for _, r := range p.rows {
			r.way.Seed = uint64(round) // all contenders of a round lose the same packets
			for i := range p.contenders {
				c := p.contenders[(i+round)%len(p.contenders)]
				if !due(r, c, round) {
					continue
				}
				if ctx.Err() != nil {
					return samples
				}
				s := sample{Round: round + 1, Row: r.name, Contender: c.Name()}
				var err error
				if s.outcome, err = measure(ctx, scratch, p.times, r, c); err != nil {
					s.Failure = strings.ReplaceAll(err.Error(), "\n", "; ")
				}
				if ctx.Err() != nil {
					return samples // the measurement was interrupted, which is no failure
				}
				time.Sleep(rest)
				fmt.Fprintf(progress, "%s round %d/%d %-17s %-21s %s\n",
					time.Now().Format(time.TimeOnly), s.Round, p.rounds, s.Row, s.Contender, s.brief(r))
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
	picky, ok := c.(picky)
	return !ok || picky.Takes(r.subject, round)
}

// brief returns the first metric in one line.
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

// rest is the pause before the next measurement. The kernel frees hosts and connections in the background.
const rest = 200 * time.Millisecond

// overhead is the time of a measurement beside the row's own, to build and close the hosts, and to start and stop programs.
const overhead = rest + 400*time.Millisecond

// estimate returns the time that the plan takes.
func (p plan) estimate() time.Duration {
	var all time.Duration
	for round := range p.rounds {
		for _, r := range p.rows {
			for _, c := range p.contenders {
				if due(r, c, round) {
					all += r.lasts(p.times) + overhead
				}
			}
		}
	}
	return all
}
