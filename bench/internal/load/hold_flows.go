package load

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
)

// holdFlows holds idle flows, as it is told to by the commands of hold. What is dropped is so at this end only.
func holdFlows(ctx context.Context, e Streams, p *peers) error {
	var flows []int
	defer func() { closeAll(flows) }()
	answer := json.NewEncoder(e.Stdout)
	for commands := bufio.NewScanner(e.Stdin); commands.Scan(); {
		var command string
		var n int
		_, _ = fmt.Sscan(commands.Text(), &command, &n) // the number is only there for hold
		var o Outcome
		switch command {
		case CommandHold:
			more, err := openFlows(ctx, p, max(0, n-len(flows)))
			flows = append(flows, more...)
			o = failures(n-len(flows), err)
		case CommandCheck:
			o = checkFlows(flows)
		case CommandDrop:
			closeAll(flows)
			flows = nil
			o = failures(0, nil)
		default:
			return fmt.Errorf("no command %q", command)
		}
		if err := answer.Encode(o); err != nil {
			return err
		}
	}
	return nil
}

// checkFlows tells on how many flows no echo comes back.
func checkFlows(flows []int) Outcome {
	failed := 0
	var first error
	for _, fd := range flows {
		if err := touchFlow(fd); err != nil {
			failed++
			first = err
			if failed > 10 { // each takes long
				break
			}
		}
	}
	return failures(failed, first)
}

// failures returns an outcome with a number of failures, and why.
func failures(n int, err error) Outcome {
	o := Outcome{Values: Values{"failed": float64(n)}}
	if err != nil {
		o.Problem = err.Error()
	}
	return o
}
