package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
)

// The paths of the API.
const (
	pathStatus      = "/api/v1/status"
	pathConnections = "/api/v1/connections"
	pathEvents      = "/api/v1/events"
)

// API answers an operator in JSON: for one process, or for a supervisor and its workers.
type API interface {
	status(ctx context.Context) Status
	connections(ctx context.Context, q Query) Connections
	// close closes the live connections of a key or id.
	close(ctx context.Context, name string) (closed int, err error)
	// follow sends events until ctx is canceled, or to fails.
	follow(ctx context.Context, to send) error
}

var errTooMany = errors.New("too many readers of events; close one")

// handleAPI registers the paths that every permitted caller may use.
func handleAPI(mux *http.ServeMux, a API) {
	mux.HandleFunc("GET "+pathStatus, func(w http.ResponseWriter, r *http.Request) { answer(w, a.status(r.Context())) })
	mux.HandleFunc("GET "+pathConnections, func(w http.ResponseWriter, r *http.Request) {
		q, err := parseQuery(r.URL.Query())
		if err != nil {
			fail(w, http.StatusBadRequest, err)
			return
		}
		answer(w, a.connections(r.Context(), q))
	})
	events := readers{make(chan struct{}, mostReaders)}
	mux.HandleFunc("GET "+pathEvents, func(w http.ResponseWriter, r *http.Request) { events.serve(a, w, r) })
}

// handleCommands registers the paths that only this machine's administrator may use.
func handleCommands(mux *http.ServeMux, a API) {
	mux.HandleFunc("POST "+pathConnections+"/{name}/close", func(w http.ResponseWriter, r *http.Request) {
		closed, err := a.close(r.Context(), r.PathValue("name"))
		switch {
		case errors.Is(err, errNotLive):
			fail(w, http.StatusNotFound, err)
		case err != nil:
			fail(w, http.StatusBadGateway, err)
		default:
			answer(w, Closed{closed})
		}
	})
}

// answer writes a value as JSON.
func answer(w http.ResponseWriter, value any) { answerAs(w, http.StatusOK, value) }

// fail writes an error as JSON.
func fail(w http.ResponseWriter, status int, err error) {
	answerAs(w, status, Failure{oneLine(err.Error())})
}

// answerAs writes a value as JSON with an HTTP status.
func answerAs(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the caller may be gone
}

// AskStatus asks processes for their status. A process that does not answer has an error.
func AskStatus(ctx context.Context, pids []int) (all []Status, failed map[int]error) {
	failed = make(map[int]error)
	for i, a := range askEach(ctx, askTimeout, processes(pids), statusOf) {
		if a.err != nil {
			failed[pids[i]] = a.err
			continue
		}
		all = append(all, a.value)
	}
	return all, failed
}

// AskConnections asks processes for the connections of a query. The error joins those of
// processes that do not answer.
func AskConnections(ctx context.Context, pids []int, q Query) (Connections, error) {
	return askConnections(ctx, askTimeout, processes(pids), q)
}

// AskClose tells processes to close a connection.
func AskClose(ctx context.Context, pids []int, k Key) error {
	_, err := askClose(ctx, askTimeout, processes(pids), k.String())
	return err
}

// processes returns the workers of process ids.
func processes(pids []int) []Worker {
	list := make([]Worker, len(pids))
	for i, pid := range pids {
		list[i].PID = pid
	}
	return list
}
