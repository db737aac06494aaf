package load

import (
	"context"
	"errors"
	"slices"
	"time"
)

// stream is peers that arrive at a steady rate, whether or not those before them have been served.
type stream struct {
	peers    *peers
	poll     *poller
	message  []byte
	visitors []visitor // a place for each that is there, and those left behind

	from     time.Time // when it begins to count
	took     []time.Duration
	failures int
	problem  string // the first failure
}

// arrive connects peers at a steady rate, each with one byte to be echoed, and measures the time from before the connect until
// the echo.
func arrive(ctx context.Context, p *peers, c loadConfig) (Outcome, error) {
	poll, err := newPoller()
	if err != nil {
		return Outcome{}, err
	}
	defer poll.close()
	every := time.Second / time.Duration(c.rate)
	all := c.samples + int(c.warmUp/every)
	begin := time.Now()
	s := stream{peers: p, poll: poll, message: make([]byte, 1), from: begin.Add(c.warmUp)}
	for n := 0; s.there() > 0 || n < all; {
		if ctx.Err() != nil {
			return Outcome{}, context.Cause(ctx)
		}
		for ; n < all && time.Since(begin) >= time.Duration(n)*every; n++ {
			s.arrive()
		}
		next := time.Until(begin.Add(time.Duration(n) * every))
		// epoll counts milliseconds. Up to one late is better than busy.
		limit := min(max(next, 0), patience).Truncate(time.Millisecond) + time.Millisecond
		if err := poll.wait(limit, func(tag int) { s.step(&s.visitors[tag]) }); err != nil {
			return Outcome{}, err
		}
	}
	return s.outcome(all)
}

// there returns how many peers are there. Those that are late go.
func (s *stream) there() (n int) {
	for i := range s.visitors {
		v := &s.visitors[i]
		if v.late() {
			s.fail(v, errLate)
		}
		if v.state != away {
			n++
		}
	}
	return n
}

// arrive begins a visit.
func (s *stream) arrive() {
	i := slices.IndexFunc(s.visitors, func(v visitor) bool { return v.state == away })
	if i < 0 {
		i = len(s.visitors)
		s.visitors = append(s.visitors, visitor{tag: i})
	}
	if err := s.visitors[i].arrive(s.poll, s.peers); err != nil {
		s.note(err)
	}
}

// step lets a visitor go on with what it does.
func (s *stream) step(v *visitor) {
	if err := v.advance(s.message); err != nil {
		s.fail(v, err)
		return
	}
	if v.state != echoed {
		return
	}
	if !v.start.Before(s.from) {
		s.took = append(s.took, time.Since(v.start))
	}
	v.leave(ClosingReset)
}

// fail ends a visit.
func (s *stream) fail(v *visitor, err error) {
	v.leave(ClosingReset)
	s.note(err)
}

func (s *stream) note(err error) {
	s.failures++
	if s.problem == "" {
		s.problem = err.Error()
	}
}

// outcome returns the latencies, and the share of failures of all peers.
func (s *stream) outcome(all int) (Outcome, error) {
	if len(s.took) == 0 {
		return Outcome{}, errors.New("no peer was served: " + s.problem)
	}
	slices.Sort(s.took)
	return Outcome{Problem: s.problem, Values: Values{
		"p50-ms": milliseconds(percentile(s.took, 0.50)),
		"p99-ms": milliseconds(percentile(s.took, 0.99)),
		"errors": 100 * float64(s.failures) / float64(all),
	}}, nil
}
