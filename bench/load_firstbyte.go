package main

import (
	"context"
	"time"
)

// pause is how long all is idle before a new connection.
const pause = 20 * time.Millisecond

// firstByte makes connections one at a time, each after a pause, and tells how
// long it took from before the connect until the echo of the first byte.
func firstByte(ctx context.Context, p *peers, c loadConfig) (outcome, error) {
	poll, err := newPoller()
	if err != nil {
		return outcome{}, err
	}
	defer poll.close()
	var took []time.Duration
	for range c.samples {
		select {
		case <-ctx.Done():
			return outcome{}, context.Cause(ctx)
		case <-time.After(pause):
		}
		var v visitor
		if err := v.visit(poll, p, make([]byte, 1)); err != nil {
			return outcome{}, err
		}
		took = append(took, time.Since(v.start))
		v.leave(closingReset)
	}
	values := make(values)
	addLatencies(values, "", took)
	return outcome{Values: values}, nil
}
