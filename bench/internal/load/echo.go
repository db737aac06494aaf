package load

import (
	"context"
	"errors"
	"time"
)

// pingPong sends a message on each connection, and the next one after its echo. It measures the rate and the latencies.
func pingPong(ctx context.Context, p *peers, c loadConfig) (Outcome, error) {
	poll, err := newPoller()
	if err != nil {
		return Outcome{}, err
	}
	defer poll.close()
	message := make([]byte, messageSize)
	players := make([]visitor, c.connections)
	for i := range players {
		players[i].tag = i
		if err := players[i].visit(poll, p, message); err != nil {
			return Outcome{}, err
		}
		defer players[i].leave(ClosingReset)
	}
	took, err := play(ctx, poll, players, message, c)
	if err != nil {
		return Outcome{}, err
	}
	values := Values{"rate": float64(len(took)) / c.length.Seconds()}
	addLatencies(values, "", took)
	return Outcome{Values: values}, nil
}

// play exchanges messages and returns the latencies of those that came back after the warm-up.
func play(ctx context.Context, poll *poller, players []visitor, message []byte, c loadConfig) ([]time.Duration, error) {
	var took []time.Duration
	var errs []error
	from := time.Now().Add(c.warmUp)
	to := from.Add(c.length)
	for i := range players {
		errs = append(errs, players[i].send(message))
	}
	for now := time.Now(); now.Before(to); {
		if err := errors.Join(append(errs, context.Cause(ctx))...); err != nil {
			return nil, err
		}
		err := poll.wait(patience, func(tag int) {
			v := &players[tag]
			if err := v.advance(message); err != nil {
				errs = append(errs, err)
				return
			}
			if v.state != echoed {
				return
			}
			now = time.Now()
			if now.After(from) && now.Before(to) {
				took = append(took, now.Sub(v.sent))
			}
			if err := v.send(message); err != nil {
				errs = append(errs, err)
			}
		})
		if err != nil {
			return nil, err
		}
		if time.Since(now) > patience {
			return nil, errLate
		}
	}
	return took, nil
}
