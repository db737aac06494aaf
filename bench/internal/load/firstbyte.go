package load

import (
	"context"
	"time"
)

// Pause is the idle time before each new connection.
const Pause = 20 * time.Millisecond

// firstByte makes connections one at a time, each after a pause, and measures the time from before the connect until the echo
// of the first byte.
func firstByte(ctx context.Context, p *peers, c loadConfig) (Outcome, error) {
	poll, err := newPoller()
	if err != nil {
		return Outcome{}, err
	}
	defer poll.close()
	var took []time.Duration
	for range c.samples {
		select {
		case <-ctx.Done():
			return Outcome{}, context.Cause(ctx)
		case <-time.After(Pause):
		}
		var v visitor
		if err := v.visit(poll, p, make([]byte, 1)); err != nil {
			return Outcome{}, err
		}
		took = append(took, time.Since(v.start))
		v.leave(ClosingReset)
	}
	values := make(Values)
	addLatencies(values, "", took)
	return Outcome{Values: values}, nil
}
