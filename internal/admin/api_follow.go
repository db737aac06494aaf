package admin

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// follow sends the events of all workers, including workers that start later.
func (m *merged) follow(ctx context.Context, to send) error {
	ctx, cancel := context.WithCancel(ctx)
	f := following{merged: m, ctx: ctx, last: make(map[int]WorkerSum)}
	defer f.reading.Wait()
	defer cancel()
	return deliver(ctx, &f.feed, to, f.summary, func(c *Connection) Connection { return *c })
}

// following merges the events of workers for one reader.
type following struct {
	*merged

	ctx     context.Context //nolint:containedctx // the request's
	feed    feed[Connection]
	reading sync.WaitGroup

	mu   sync.Mutex
	last map[int]WorkerSum // of the workers that are read, by process; guarded by mu
}

// summary starts reading new workers, and adds up the last summary of each.
func (f *following) summary() Summary {
	workers := f.workers()
	f.mu.Lock()
	defer f.mu.Unlock()
	s := Summary{Time: time.Now().UTC(), Condition: conditionOf(f.health), Workers: []WorkerSum{}}
	for _, w := range workers {
		sum, known := f.last[w.PID]
		if !known {
			sum = WorkerSum{PID: w.PID, Section: w.Section, State: Silent}
			f.last[w.PID] = sum
			f.reading.Go(func() { f.read(w) })
		}
		s.Workers = append(s.Workers, sum)
		s.add(sum.Sum)
	}
	slices.SortFunc(s.Workers, func(a, b WorkerSum) int {
		return cmp.Or(cmp.Compare(order(a.State), order(b.State)), cmp.Compare(a.Section, b.Section), cmp.Compare(a.PID, b.PID))
	})
	return s
}

// read reads the events of a worker until the stream ends. The next summary reconnects.
func (f *following) read(w Worker) {
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.last, w.PID)
	}()
	_ = readEvents(f.ctx, w.PID, func(name string, text []byte) error {
		if name == eventSummary {
			return f.note(w, text)
		}
		var c Connection
		if err := json.Unmarshal(text, &c); err != nil {
			return err
		}
		c.Section = w.Section
		f.feed.add(c)
		return nil
	})
}

// note notes the summary of a worker.
func (f *following) note(w Worker, text []byte) error {
	var s Summary
	if err := json.Unmarshal(text, &s); err != nil || len(s.Workers) != 1 {
		return errors.Join(err, errNoSummary)
	}
	f.feed.miss(s.Missed)
	sum := s.Workers[0]
	sum.Section = w.Section
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last[w.PID] = sum
	return nil
}

var errNoSummary = errors.New("the event is not a summary of one worker")

// readEvents passes the events of a process to take until ctx is canceled, the process ends or
// take fails.
func readEvents(ctx context.Context, pid int, take func(name string, text []byte) error) error {
	s, err := open(ctx, http.MethodGet, pid, pathEvents, nil)
	if err != nil {
		return err
	}
	defer s.close()
	lines := bufio.NewReader(s.body)
	name := ""
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return err
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "event":
			name = value
		case "data":
			if err := take(name, []byte(value)); err != nil {
				return err
			}
		}
	}
}
