package health

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"portredirector/internal/local"
)

// Ask returns an error if a process of this PID namespace is unhealthy or cannot be asked.
// A healthy one may have a note about itself.
func Ask(ctx context.Context, pid int) (note string, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	line, err := local.Health.Ask(ctx, pid, "")
	switch {
	case err != nil && ctx.Err() != nil:
		return "", fmt.Errorf("it does not answer within %v", answerTimeout)
	case err != nil:
		return "", err
	}
	word, note, _ := strings.Cut(line, " ")
	if word != well {
		return "", errors.New(line)
	}
	return note, nil
}

// Find returns the processes of this PID namespace that may be asked.
func Find() ([]int, error) { return local.Health.Find() }

// Report asks all of pids at once. It returns the errors of those that are unhealthy, and the
// notes of others. It leaves out names that other processes hold.
func Report(ctx context.Context, pids []int) (asked int, unhealthy map[int]error, notes map[int]string) {
	type answer struct {
		pid  int
		note string
		err  error
	}
	answers := make(chan answer)
	for _, pid := range pids {
		go func() {
			note, err := Ask(ctx, pid)
			answers <- answer{pid, note, err}
		}()
	}
	unhealthy, notes = make(map[int]error), make(map[int]string)
	for range pids {
		a := <-answers
		switch {
		case errors.Is(a.err, local.ErrTaken):
			continue
		case a.err != nil:
			unhealthy[a.pid] = a.err
		case a.note != "":
			notes[a.pid] = a.note
		}
		asked++
	}
	return asked, unhealthy, notes
}
