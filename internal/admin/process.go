package admin

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Process supplies the answers of a server.
type Process struct {
	// Health returns why the process is unhealthy, or a note if another has taken its place.
	Health func() (note string, err error)
	// Metrics returns what gathers the metrics. It is called once, for the first caller who
	// wants them; nil is no metrics.
	Metrics func() (prometheus.Gatherer, error)
	// Bans lists and changes bans; nil disables pathBans.
	Bans Bans
	// API answers in JSON; nil disables it.
	API API
}

// handler returns the handler of all paths.
func (p Process) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", servePage)
	mux.HandleFunc("GET "+pathHealth, p.serveHealth)
	mux.HandleFunc("GET "+pathReady, p.serveReady)
	if p.Metrics != nil {
		gatherer := sync.OnceValues(p.Metrics)
		mux.HandleFunc("GET "+pathMetrics, func(w http.ResponseWriter, _ *http.Request) {
			g, err := gatherer()
			if err != nil {
				http.Error(w, oneLine(err.Error()), http.StatusInternalServerError)
				return
			}
			serveMetrics(g, w)
		})
	}
	if p.Bans != nil {
		handleBans(mux, p.Bans)
	}
	if p.API != nil {
		handleAPI(mux, p.API)
	}
	return mux
}

// localHandler adds commands and profiles, for this machine's administrator.
func (p Process) localHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", p.handler())
	if p.Bans != nil {
		handleBanCommands(mux, p.Bans)
	}
	if p.API != nil {
		handleCommands(mux, p.API)
	}
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// serveHealth answers with the note of a process that is well.
func (p Process) serveHealth(w http.ResponseWriter, _ *http.Request) {
	note, err := p.Health()
	if err != nil {
		unavailable(w, err.Error())
		return
	}
	writeLine(w, strings.TrimSpace("ok "+note))
}

// serveReady answers whether the process serves new peers.
func (p Process) serveReady(w http.ResponseWriter, _ *http.Request) {
	switch note, err := p.Health(); {
	case err != nil:
		unavailable(w, err.Error())
	case note != "":
		unavailable(w, note)
	default:
		writeLine(w, "ok")
	}
}

// unavailable answers 503 with a reason.
func unavailable(w http.ResponseWriter, why string) {
	http.Error(w, oneLine(why), http.StatusServiceUnavailable)
}

// writeLine answers with a line.
func writeLine(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, oneLine(text)+"\n") // the caller may be gone
}

// oneLine puts a text on one line.
func oneLine(text string) string { return strings.ReplaceAll(text, "\n", "; ") }

// discard drops what package http logs of callers.
var discard = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
