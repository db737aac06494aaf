package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"portredirector/internal/local"
)

// mostAnswer bounds an answer in bytes.
const mostAnswer = 64 << 20

// Get asks a process of this PID namespace for a path.
func Get(ctx context.Context, pid int, path string) (status int, answer []byte, err error) {
	ctx, cancel := within(ctx, askTimeout)
	defer cancel()
	if status, answer, err = request(ctx, http.MethodGet, pid, path, nil); err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return status, answer, err
}

// within returns a context that limits the time for an answer.
func within(ctx context.Context, most time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, most, fmt.Errorf("no answer within %v", most))
}

// request sends a request to a process and reads the answer.
func request(ctx context.Context, method string, pid int, path string, content []byte) (status int, answer []byte, err error) {
	s, err := open(ctx, method, pid, path, content)
	if err != nil {
		return 0, nil, err
	}
	defer s.close()
	answer, err = io.ReadAll(io.LimitReader(s.body, mostAnswer))
	if err != nil {
		return 0, nil, local.NoAnswer(s.conn, err)
	}
	return s.status, answer, nil
}

// stream is an answer whose head has been read.
type stream struct {
	status int
	body   io.ReadCloser
	conn   *net.UnixConn
	stop   func() bool
}

// close ends the stream.
func (s stream) close() {
	s.stop()
	_ = s.conn.Close()
}

// open sends a request to a process. The caller must close the stream. Reads fail when ctx is
// canceled.
func open(ctx context.Context, method string, pid int, path string, content []byte) (s stream, err error) {
	if s.conn, err = local.Admin.Dial(ctx, pid); err != nil {
		return s, err
	}
	s.stop = context.AfterFunc(ctx, func() { _ = s.conn.SetDeadline(time.Unix(1, 0)) })
	response, err := s.exchange(ctx, method, path, content)
	if err != nil {
		err = local.NoAnswer(s.conn, err)
		s.close()
		return s, err
	}
	s.status, s.body = response.StatusCode, response.Body
	return s, nil
}

// exchange sends a request, and reads the head of the answer.
func (s stream) exchange(ctx context.Context, method, path string, content []byte) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	if err := r.Write(s.conn); err != nil {
		return nil, err
	}
	return http.ReadResponse(bufio.NewReader(s.conn), r)
}

// requestJSON sends a request and decodes the JSON answer. It returns a Failure as an error.
func requestJSON[T any](ctx context.Context, method string, pid int, path string, content []byte) (status int, value T, err error) {
	status, text, err := request(ctx, method, pid, path, content)
	if err != nil {
		return 0, value, err
	}
	if status != http.StatusOK {
		var f Failure
		if json.Unmarshal(text, &f) != nil || f.Error == "" {
			f.Error = fmt.Sprintf("%s was answered with status %d; the process may be an older version", path, status)
		}
		return status, value, errors.New(f.Error)
	}
	return status, value, json.Unmarshal(text, &value)
}

// asked is the answer of a process.
type asked[T any] struct {
	value T
	err   error
}

// askEach asks processes concurrently, each within a time limit, and returns their answers in the
// same order.
func askEach[P, T any](ctx context.Context, most time.Duration, processes []P, ask func(context.Context, P) (T, error)) []asked[T] {
	ctx, cancel := within(ctx, most)
	defer cancel()
	answers := make([]asked[T], len(processes))
	var asking sync.WaitGroup
	for i, p := range processes {
		asking.Go(func() {
			a := &answers[i]
			if a.value, a.err = ask(ctx, p); a.err != nil && ctx.Err() != nil {
				a.err = context.Cause(ctx)
			}
		})
	}
	asking.Wait()
	return answers
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
	unhealthy, notes = make(map[int]error), make(map[int]string)
	for i, a := range askEach(ctx, askTimeout, pids, Health) {
		switch {
		case errors.Is(a.err, local.ErrTaken):
			continue
		case a.err != nil:
			unhealthy[pids[i]] = a.err
		case a.value != "":
			notes[pids[i]] = a.value
		}
		asked++
	}
	return asked, unhealthy, notes
}
