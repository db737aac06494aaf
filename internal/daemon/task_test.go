package daemon

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/client"
	"portredirector/internal/config"
	"portredirector/internal/server"
	"portredirector/internal/testnet/nstest"
)

// journal records events in order.
type journal struct {
	mu     sync.Mutex
	events []string // guarded by mu
}

func (j *journal) add(event string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, event)
}

// fakeTask is ready when told to, and fails or records its end.
type fakeTask struct {
	*journal
	name  string
	ready chan struct{}
	fails error
}

func (f *fakeTask) Run(ctx context.Context) error {
	close(f.ready)
	if f.fails != nil {
		return f.fails
	}
	<-ctx.Done()
	f.add(f.name + " has ended")
	return nil
}
func (f *fakeTask) Ready() <-chan struct{} { return f.ready }
func (f *fakeTask) String() string         { return f.name }

// TestShutdownOrder wants tasks to end one after the other, the last one first.
func TestShutdownOrder(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	j := &journal{}
	var tasks []task
	for _, name := range []string{"routes", "relay", "callers"} {
		tasks = append(tasks, &fakeTask{journal: j, name: name, ready: make(chan struct{})})
	}
	var c closers
	c.push(func() { j.add("socket closed") })
	c.push(func() { j.add("file closed") })
	err := runTasks(NewShutdown(ctx), slog.New(slog.DiscardHandler), func() error { j.add("ready"); cancel(); return nil }, tasks...)
	if err := errors.Join(err, c.close(), c.close()); err != nil {
		t.Error(err)
	}
	want := []string{"ready", "callers has ended", "relay has ended", "routes has ended", "file closed", "socket closed"}
	if diff := cmp.Diff(want, j.events); diff != "" {
		t.Error(diff)
	}
}

// TestCanceledBeforeReady wants a daemon that is told to end early to announce itself first.
func TestCanceledBeforeReady(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	j := &journal{}
	err := runTasks(NewShutdown(ctx), slog.New(slog.DiscardHandler), func() error { j.add("ready"); return nil },
		&fakeTask{journal: j, name: "a", ready: make(chan struct{})})
	if err != nil || !slices.Equal(j.events, []string{"ready", "a has ended"}) {
		t.Error(j.events, err)
	}
}

// TestFailingTask wants a task that fails to end the others, and its error.
func TestFailingTask(t *testing.T) {
	j := &journal{}
	broken := errors.New("broken")
	err := runTasks(NewShutdown(t.Context()), slog.New(slog.DiscardHandler), func() error { return nil },
		&fakeTask{journal: j, name: "a", ready: make(chan struct{})},
		&fakeTask{journal: j, name: "b", ready: make(chan struct{}), fails: broken},
		&fakeTask{journal: j, name: "c", ready: make(chan struct{})})
	if !errors.Is(err, broken) {
		t.Error(err)
	}
	if !slices.Equal(j.events, []string{"c has ended", "a has ended"}) {
		t.Error(j.events)
	}
}

// TestNotReady wants a failure to announce a daemon to end it.
func TestNotReady(t *testing.T) {
	broken := errors.New("broken")
	err := runTasks(NewShutdown(t.Context()), slog.New(slog.DiscardHandler), func() error { return broken },
		&fakeTask{journal: &journal{}, name: "a", ready: make(chan struct{})})
	if !errors.Is(err, broken) {
		t.Error(err)
	}
}

// TestTasks wants the tasks of a daemon to be those of its configuration.
func TestTasks(t *testing.T) {
	names := func(tasks []task) (names []string) {
		for _, t := range tasks {
			names = append(names, t.String())
		}
		return names
	}
	s := &serverDaemon{server: &server.Server{}, clients: &clients{}, cfg: config.Server{
		Clients: []string{"1.1.1.1:12345"}, Services: map[uint16]server.Service{80: {Host: server.ContainerPrefix + "web", Port: 80}},
	}}
	want := []string{"broker of files and names", "return routes", "published ports", "addresses of this machine", "names of services", "containers web", "file of clients", "relay", "links to clients at 1.1.1.1:12345"}
	if diff := cmp.Diff(want, names(s.tasks(Shutdown{}))); diff != "" {
		t.Error(diff)
	}
	var c closers
	defer func() { _ = c.close() }()
	listeners, err := c.listen(t.Context(), Env{}, config.Client{}.KeepAlive, "127.0.0.1:37205", "127.0.0.1:37206")
	nstest.Must(t, err)
	d := &clientDaemon{
		cfg: config.Client{Servers: []string{"2.2.2.2:1"}}, listeners: listeners[:1], client: &client.Client{},
		incoming: &linkListener{listener: listeners[1], enrolled: &clients{}},
	}
	want = []string{"broker of files and names", "links to 2.2.2.2:1", "file of joined servers", "servers that dial 127.0.0.1:37206", "relay of 127.0.0.1:37205"}
	if diff := cmp.Diff(want, names(d.tasks(Shutdown{}))); diff != "" {
		t.Error(diff)
	}
}
