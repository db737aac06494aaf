package load

import (
	"context"
	"time"
)

// attempt is one connection with one echo on it.
type attempt struct {
	at   time.Duration // when the echo was there, from the beginning of all
	took time.Duration // from before the connect
}

// crowd is a number of visitors that return as soon as they have left.
type crowd struct {
	peers    *peers
	poll     *poller
	closing  string
	message  []byte
	visitors []visitor

	begin, end time.Time
	done       []attempt
	failures   int
	problem    string // the first failure
}

// connect makes new connections, with one echo on each, a fixed number at a time. It measures the rate and the latencies of the
// first second, the beginning, the end and the whole time, and the share of failures.
func connect(ctx context.Context, p *peers, c loadConfig) (Outcome, error) {
	poll, err := newPoller()
	if err != nil {
		return Outcome{}, err
	}
	defer poll.close()
	begin := time.Now()
	all := crowd{
		peers: p, poll: poll, closing: c.closing, message: make([]byte, messageSize),
		visitors: make([]visitor, c.connections), begin: begin, end: begin.Add(c.length),
	}
	if err := all.run(ctx); err != nil {
		return Outcome{}, err
	}
	values := make(Values)
	values["errors"] = 100 * float64(all.failures) / float64(max(1, all.failures+len(all.done)))
	addWindow(values, "", all.done, 0, c.length)
	if c.window > 0 {
		addWindow(values, "-second", all.done, 0, time.Second)
		addWindow(values, "-first", all.done, 0, c.window)
		addWindow(values, "-last", all.done, c.length-c.window, c.length)
	}
	return Outcome{Values: values, Problem: all.problem}, nil
}

// run makes visits until the end. Visits in progress at the end may still fail.
func (c *crowd) run(ctx context.Context) error {
	for i := range c.visitors {
		c.visitors[i].tag = i
	}
	const tick = 10 * time.Millisecond
	var next time.Time // tick
	for {
		if now := time.Now(); now.After(next) {
			next = now.Add(tick)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if there := c.look(); there == 0 && !now.Before(c.end) {
				return nil
			}
		}
		if err := c.poll.wait(tick, func(tag int) { c.step(&c.visitors[tag]) }); err != nil {
			return err
		}
	}
}

// look handles visitors that the poller does not report: late ones leave, and absent ones return. It returns how many are
// connected.
func (c *crowd) look() (there int) {
	for i := range c.visitors {
		v := &c.visitors[i]
		if v.late() {
			c.fail(v, errLate)
		}
		if v.state == away {
			c.arrive(v) // also after a failure: what fails at once must not become a storm
		}
		if v.state != away {
			there++
		}
	}
	return there
}

// step lets a visitor go on with what it does.
func (c *crowd) step(v *visitor) {
	if err := v.advance(c.message); err != nil {
		c.fail(v, err)
		return
	}
	if v.state == echoed {
		now := time.Now()
		c.done = append(c.done, attempt{at: now.Sub(c.begin), took: now.Sub(v.start)})
		v.leave(c.closing)
		_ = v.advance(c.message) // the service may have closed it already
	}
	if v.state == away {
		c.arrive(v)
	}
}

// arrive begins a new visit if there is time.
func (c *crowd) arrive(v *visitor) {
	if !time.Now().Before(c.end) {
		return
	}
	if err := v.arrive(c.poll, c.peers); err != nil {
		c.note(err)
	}
}

// fail ends a visit.
func (c *crowd) fail(v *visitor, err error) {
	v.leave(ClosingReset)
	c.note(err)
}

func (c *crowd) note(err error) {
	c.failures++
	if c.problem == "" {
		c.problem = err.Error()
	}
}

// addWindow adds the rate and the latencies of the attempts that ended between two moments.
func addWindow(values Values, suffix string, done []attempt, from, to time.Duration) {
	var took []time.Duration
	for _, a := range done {
		if a.at >= from && a.at < to {
			took = append(took, a.took)
		}
	}
	values["rate"+suffix] = float64(len(took)) / (to - from).Seconds()
	addLatencies(values, suffix, took)
}
