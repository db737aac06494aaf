package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"portredirector/internal/local"
)

// mostAnswer bounds an answer in bytes.
const mostAnswer = 64 << 20

// Get asks a process of this PID namespace for a path.
func Get(ctx context.Context, pid int, path string) (status int, answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	status, answer, err = get(ctx, pid, path)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("it does not answer within %v", askTimeout)
	}
	return status, answer, err
}

// get is Get without a bound on its time.
func get(ctx context.Context, pid int, path string) (status int, answer []byte, err error) {
	c, err := local.Admin.Dial(ctx, pid)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	if err := request.Write(c); err != nil {
		return 0, nil, local.NoAnswer(c, err)
	}
	response, err := http.ReadResponse(bufio.NewReader(c), request)
	if err != nil {
		return 0, nil, local.NoAnswer(c, err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err = io.ReadAll(io.LimitReader(response.Body, mostAnswer))
	if err != nil {
		return 0, nil, local.NoAnswer(c, err)
	}
	return response.StatusCode, answer, nil
}

// Health returns an error if a process is unhealthy or cannot be asked. A healthy one may have
// a note about itself.
func Health(ctx context.Context, pid int) (note string, err error) {
	status, answer, err := Get(ctx, pid, pathHealth)
	if err != nil {
		return "", err
	}
	line := strings.TrimSpace(string(answer))
	if status != http.StatusOK {
		return "", errors.New(line)
	}
	_, note, _ = strings.Cut(line, " ")
	return note, nil
}

// Find returns the processes of this PID namespace that may be asked.
func Find() ([]int, error) { return local.Admin.Find() }

// Report asks all of pids at once for their health. It returns the errors of those that are
// unhealthy, and the notes of others. It leaves out names that other processes hold.
func Report(ctx context.Context, pids []int) (asked int, unhealthy map[int]error, notes map[int]string) {
	type answer struct {
		pid  int
		note string
		err  error
	}
	answers := make(chan answer)
	for _, pid := range pids {
		go func() {
			note, err := Health(ctx, pid)
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
