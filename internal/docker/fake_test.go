package docker_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"portredirector/internal/docker"
	"portredirector/internal/testnet/nstest"
)

// fake is an engine: answers by path, and events when it is told to send one.
type fake struct {
	t      *testing.T
	socket string
	asked  chan struct{} // one for each question, but for events

	mu      sync.Mutex
	answers map[string]string
	events  map[chan string]bool // those who listen
	server  *httptest.Server     // nil while it is away
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{
		t: t, socket: filepath.Join(t.TempDir(), "docker.sock"), asked: make(chan struct{}, 1000),
		answers: make(map[string]string), events: make(map[chan string]bool),
	}
	f.start()
	t.Cleanup(f.stop)
	return f
}

func (f *fake) start() {
	f.t.Helper()
	l, err := net.Listen("unix", f.socket)
	if err != nil {
		f.t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(f)
	_ = server.Listener.Close()
	server.Listener = l
	server.Start()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.server = server
}

// stop is an engine that dies.
func (f *fake) stop() {
	f.mu.Lock()
	server := f.server
	f.server = nil
	f.mu.Unlock()
	if server != nil {
		server.CloseClientConnections()
		server.Close()
	}
}

// set gives a path an answer, or none.
func (f *fake) set(path, answer string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[path] = answer
}

// send sends an event to those who listen.
func (f *fake) send(event string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.events {
		c <- event
	}
}

// listening waits until somebody listens.
func (f *fake) listening() {
	f.t.Helper()
	nstest.WaitFor(f.t, "somebody listens to events", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.events) > 0
	})
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		f.t.Errorf("%s %s: only GET is harmless", r.Method, r.URL)
	}
	if r.URL.Path == "/events" {
		f.serveEvents(w, r)
		return
	}
	f.asked <- struct{}{}
	f.mu.Lock()
	answer := f.answers[r.URL.Path]
	f.mu.Unlock()
	switch answer {
	case "":
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"message":"No such container: %s"}`+"\n", filepath.Base(r.URL.Path))
	case "fail":
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintln(w, `{"message":"it hurts"}`)
	case "endless":
		fmt.Fprint(w, `{"Name":"`)
		for r.Context().Err() == nil {
			fmt.Fprint(w, strings.Repeat("x", 1<<16))
		}
	default:
		fmt.Fprintln(w, answer)
	}
}

func (f *fake) serveEvents(w http.ResponseWriter, r *http.Request) {
	for _, want := range []string{"container", "network", "start", "die", "rename", "connect", "disconnect"} {
		if !strings.Contains(r.URL.Query().Get("filters"), `"`+want+`"`) {
			f.t.Errorf("%s does not ask for %s", r.URL, want)
		}
	}
	mine := make(chan string, 100)
	f.mu.Lock()
	f.events[mine] = true
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.events, mine)
		f.mu.Unlock()
	}()
	w.(http.Flusher).Flush()
	for {
		select {
		case event := <-mine:
			fmt.Fprintln(w, event)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// engine follows containers of the fake, and logs to a record.
func (f *fake) engine(containers ...string) (*docker.Engine, *record) {
	log := new(record)
	return docker.New(f.socket, containers, slog.New(slog.NewTextHandler(log, nil))), log
}

// run runs an engine until the returned function, or the end of the test.
func (f *fake) run(e *docker.Engine) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { e.Run(ctx) })
	stop = func() { cancel(); running.Wait() }
	f.t.Cleanup(stop)
	return stop
}

// record keeps a log.
type record struct {
	mu   sync.Mutex
	text strings.Builder
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(b)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// running is the engine's answer (API 1.41) about a container in some networks, given as
// JSON members of Networks.
func running(mode, networks string) string {
	return inspect(`"Status":"running","Running":true,"Paused":false,"Restarting":false`, mode, networks)
}

func inspect(state, mode, networks string) string {
	return fmt.Sprintf(`{"Id":"d5a11096af99d7ffc72931479e1465c8bd061c4ee22559126548cc21c8fe40ee",
"Created":"2026-11-25T00:59:44.1Z","Path":"/web","Args":[],
"State":{%s,"OOMKilled":false,"Dead":false,"Pid":5400,"ExitCode":0,"Error":"","StartedAt":"2026-11-25T00:59:44.8Z"},
"Name":"/web","RestartCount":0,"Driver":"overlay2","Mounts":[],
"HostConfig":{"NetworkMode":%q,"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]}},
"Config":{"Hostname":"d5a11096af99","ExposedPorts":{"80/tcp":{}}},
"NetworkSettings":{"Bridge":"","SandboxID":"55","Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}]},
"Gateway":"172.17.0.1","IPAddress":"172.17.0.99","Networks":{%s}}}`, state, mode, networks)
}

// in is a container's place in one network.
func in(network, id, ipv4, ipv6 string, more ...string) string {
	return fmt.Sprintf(`%q:{"IPAMConfig":null,"Links":null,"Aliases":null,"NetworkID":%q,"EndpointID":"cf1e",
"Gateway":"172.17.0.1","IPAddress":%q,"IPPrefixLen":16,"IPv6Gateway":"","GlobalIPv6Address":%q,"GlobalIPv6PrefixLen":0,
"MacAddress":"02:42:ac:11:00:02","DriverOpts":null%s}`, network, id, ipv4, ipv6, strings.Join(more, ""))
}
