package admin

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"
)

// merged answers for a supervisor by asking the workers.
type merged struct {
	version string
	health  func() (note string, err error)
	workers func() []Worker
}

// Merged returns an API that answers for a supervisor of a version.
func Merged(version string, health func() (note string, err error), workers func() []Worker) API {
	return &merged{version, health, workers}
}

// status describes all workers.
func (m *merged) status(ctx context.Context) Status {
	workers := m.workers()
	s := Status{
		Version: m.version, Time: time.Now().UTC(), PID: os.Getpid(), Began: processBegan.UTC(), Supervisor: true,
		Condition: conditionOf(m.health), Workers: []State{}, Ended: []Connection{},
	}
	for i, a := range askEach(ctx, mergeTimeout, workers, statusOf) {
		w := workers[i]
		if a.err != nil || len(a.value.Workers) != 1 {
			s.Workers = append(s.Workers, w.silent())
			continue
		}
		state := a.value.Workers[0]
		state.Section = w.Section
		s.Workers = append(s.Workers, state)
		s.Ended = append(s.Ended, w.name(a.value.Ended)...)
		s.add(state.Sum)
	}
	slices.SortStableFunc(s.Workers, func(a, b State) int {
		return cmp.Or(cmp.Compare(order(a.State), order(b.State)), cmp.Compare(a.Section, b.Section), cmp.Compare(a.PID, b.PID))
	})
	slices.SortStableFunc(s.Ended, func(a, b Connection) int { return b.Ended.Compare(a.Ended) })
	s.Ended = s.Ended[:min(len(s.Ended), mostEnded)]
	return s
}

// order returns the sort position of a state. Serving workers come first.
func order(state string) int {
	return slices.Index([]string{Serving, Silent, Draining, Retired}, state)
}

// statusOf asks a worker.
func statusOf(ctx context.Context, w Worker) (Status, error) {
	_, s, err := requestJSON[Status](ctx, http.MethodGet, w.PID, pathStatus, nil)
	return s, err
}

// silent describes a worker that does not answer.
func (w Worker) silent() State {
	return State{
		WorkerSum: WorkerSum{PID: w.PID, Section: w.Section, State: Silent}, Version: w.Version, Began: w.Began.UTC(),
		Condition: Condition{Reason: "the worker does not answer"},
		Ports:     []Port{}, Ends: []EndCount{}, Limits: []Limit{}, Dropped: map[string]uint64{},
	}
}

// name sets the section of a worker in its connections.
func (w Worker) name(list []Connection) []Connection {
	for i := range list {
		list[i].Section = cmp.Or(w.Section, list[i].Section)
	}
	return list
}

// connections answers a query with the connections of all workers.
func (m *merged) connections(ctx context.Context, q Query) Connections {
	c, _ := askConnections(ctx, mergeTimeout, m.workers(), q) // the status shows workers that do not answer
	return c
}

// askConnections merges the connections of processes. The error joins those of processes that did not answer.
func askConnections(ctx context.Context, most time.Duration, processes []Worker, q Query) (Connections, error) {
	answer := Connections{Time: time.Now().UTC()}
	rows := page[Connection]{limit: q.Limit}
	more := false
	var failed error
	for i, a := range askEach(ctx, most, processes, func(ctx context.Context, w Worker) (Connections, error) {
		_, c, err := requestJSON[Connections](ctx, http.MethodGet, w.PID, pathConnections+"?"+q.Values().Encode(), nil)
		return c, err
	}) {
		failed = errors.Join(failed, a.err)
		answer.Total += a.value.Total
		answer.Matched += a.value.Matched
		more = more || a.value.Next != ""
		for _, c := range processes[i].name(a.value.Connections) {
			rows.add(q.rankOf(&c), c)
		}
	}
	answer.Connections, answer.Next = rows.list()
	if last := len(answer.Connections) - 1; more && last >= 0 {
		answer.Next = q.rankOf(&answer.Connections[last]).String()
	}
	if q.Ended {
		answer.Next = ""
	}
	return answer, failed
}

// rankOf returns the rank of a connection.
func (q Query) rankOf(c *Connection) rank {
	if q.Ended {
		return rank{c.Ended.UnixNano(), c.Key}
	}
	return q.rank(c.Key, c.Began, c.Up+c.Down, c.RateUp+c.RateDown)
}

// close tells all workers to close the connections of a key or id.
func (m *merged) close(ctx context.Context, name string) (closed int, err error) {
	return askClose(ctx, mergeTimeout, m.workers(), name)
}

// askClose tells processes to close the connections of a key or id.
func askClose(ctx context.Context, most time.Duration, processes []Worker, name string) (closed int, err error) {
	err = errNotLive
	for _, a := range askEach(ctx, most, processes, func(ctx context.Context, w Worker) (int, error) {
		status, c, err := requestJSON[Closed](ctx, http.MethodPost, w.PID, pathConnections+"/"+url.PathEscape(name)+"/close", nil)
		if status == http.StatusNotFound {
			err = errNotLive
		}
		return c.Closed, err
	}) {
		closed += a.value
		if a.err != nil && !errors.Is(a.err, errNotLive) {
			err = a.err
		}
	}
	if closed > 0 {
		err = nil
	}
	return closed, err
}
