package measure

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"portredirector/bench/internal/contender"
	"portredirector/bench/internal/load"
)

// Plan says what to measure.
type Plan struct {
	Rounds     int
	Rows       []Row
	Contenders []contender.Contender
	Times      times
}

// Sample is one measurement of a row with a contender.
type Sample struct {
	Round     int    `json:"round"`
	Row       string `json:"row"`
	Contender string `json:"contender"`
	load.Outcome
	// Failure says why values are missing.
	Failure string `json:"failure,omitempty"`
}

// Run measures every row with every contender, round by round. Within a row the contenders take turns, and each round starts
// with another one. It returns early when ctx is canceled.
func (p Plan) Run(ctx context.Context, progress io.Writer, scratch string) []Sample {
	var samples []Sample
	for round := range p.Rounds {
		for _, r := range p.Rows {
			r.way.Seed = uint64(round) // all contenders of a round lose the same packets
			for i := range p.Contenders {
				c := p.Contenders[(i+round)%len(p.Contenders)]
				if !due(r, c, round) {
					continue
				}
				if ctx.Err() != nil {
					return samples
				}
				s := Sample{Round: round + 1, Row: r.Name, Contender: c.Name()}
				var err error
				if s.Outcome, err = measure(ctx, scratch, p.Times, r, c); err != nil {
					s.Failure = strings.ReplaceAll(err.Error(), "\n", "; ")
				}
				if ctx.Err() != nil {
					return samples // the measurement was interrupted, which is no failure
				}
				time.Sleep(rest)
				fmt.Fprintf(progress, "%s round %d/%d %-17s %-21s %s\n",
					time.Now().Format(time.TimeOnly), s.Round, p.Rounds, s.Row, s.Contender, s.brief(r))
				samples = append(samples, s)
			}
		}
	}
	return samples
}

// due reports whether a row is measured with a contender in a round.
func due(r Row, c contender.Contender, round int) bool {
	if r.rounds > 0 && round >= r.rounds {
		return false
	}
	picky, ok := c.(contender.Selective)
	return !ok || picky.Takes(r.Subject, round)
}

// brief returns the first metric in one line.
func (s Sample) brief(r Row) string {
	if s.Failure != "" {
		return "n/a: " + s.Failure
	}
	first := r.Metrics[0]
	text := first.Format(s.Values[first.Key]) + " " + first.Unit
	if s.Problem != "" {
		text += " (" + s.Problem + ")"
	}
	return text
}

// rest is the pause before the next measurement. The kernel frees hosts and connections in the background.
const rest = 200 * time.Millisecond

// overhead is the time of a measurement beside the row's own, to build and close the hosts, and to start and stop programs.
const overhead = rest + 400*time.Millisecond

// Estimate returns the time that the plan takes.
func (p Plan) Estimate() time.Duration {
	var all time.Duration
	for round := range p.Rounds {
		for _, r := range p.Rows {
			for _, c := range p.Contenders {
				if due(r, c, round) {
					all += r.lasts(p.Times) + overhead
				}
			}
		}
	}
	return all
}
