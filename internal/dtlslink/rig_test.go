package dtlslink

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/limit"
	"portredirector/internal/logging"
	"portredirector/internal/wire"
)

// event records a call of a Handler.
type event struct {
	what    string
	link    *Link
	flow    uint32
	b       string
	status  wire.Status
	seconds uint32
	err     error
}

// recorder is a Handler that keeps its calls.
type recorder struct {
	events chan event
	onData func(l *Link, flow uint32, b []byte) // in place of an event
}

func newRecorder() *recorder { return &recorder{events: make(chan event, 1<<14)} }

func (r *recorder) Opened(l *Link)            { r.events <- event{what: "opened", link: l} }
func (r *recorder) Retired(l *Link)           { r.events <- event{what: "retired", link: l} }
func (r *recorder) Closed(l *Link, err error) { r.events <- event{what: "closed", link: l, err: err} }

func (r *recorder) First(l *Link, flow uint32, b []byte) {
	r.events <- event{what: "first", link: l, flow: flow, b: string(b)}
}

func (r *recorder) Data(l *Link, flow uint32, b []byte) {
	if r.onData != nil {
		r.onData(l, flow, b)
		return
	}
	r.events <- event{what: "data", link: l, flow: flow, b: string(b)}
}

func (r *recorder) End(l *Link, flow uint32, status wire.Status, seconds uint32) {
	r.events <- event{what: "end", link: l, flow: flow, status: status, seconds: seconds}
}
func (r *recorder) Flush() {}

// next waits for an event of a kind, and skips others.
func (r *recorder) next(t testing.TB, what string) event {
	t.Helper()
	for deadline := time.After(20 * time.Second); ; {
		select {
		case e := <-r.events:
			if e.what == what {
				return e
			}
		case <-deadline:
			t.Fatalf("no event %q", what)
		}
	}
}

// quickTimes are for tests.
var quickTimes = times{
	keepAlive: 200 * time.Millisecond, busy: 100 * time.Millisecond, quick: 50 * time.Millisecond, least: 80 * time.Millisecond,
	grace: 200 * time.Millisecond, age: time.Hour, check: 20 * time.Millisecond,
}

// ends has the keys of two ends.
type ends struct{ client, server auth.PrivateKey }

func newEnds() ends { return ends{auth.NewKey(), auth.NewKey()} }

// listener returns a listener of the server.
func (e ends) listener(t testing.TB, h Handler) *Listener {
	t.Helper()
	a, err := auth.AcceptWithKey(e.server, false)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	return &Listener{
		Auth: a, Handler: h, Timeout: 10 * time.Second, KeepAlive: time.Second, Log: log, times: quickTimes,
		Judge: func(id auth.Identity) error {
			if id.Key != e.client.Public() {
				return errStranger
			}
			return nil
		},
		Handshakes: &limit.Oldest[netip.Prefix]{Most: 16, MostEach: 8},
		Throttle:   &logging.Throttle[netip.Prefix]{To: log},
	}
}

var errStranger = errors.New("a stranger")

// dialer returns a dialer of the client.
func (e ends) dialer(t testing.TB, to string, h Handler) *Dialer {
	t.Helper()
	a, err := auth.DialWithKey(e.client, []auth.PublicKey{e.server.Public()}, false)
	if err != nil {
		t.Fatal(err)
	}
	return &Dialer{
		Name: to, Auth: a, Addrs: func(context.Context) ([]netip.AddrPort, error) {
			return []netip.AddrPort{netip.MustParseAddrPort(to)}, nil
		},
		Purpose: auth.ToServer, Handler: h, Timeout: 10 * time.Second, KeepAlive: time.Second,
		Log: slog.New(slog.DiscardHandler), times: quickTimes,
	}
}

// run runs a task until the returned function is called, or the test ends.
func run(t testing.TB, task func(ctx context.Context)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	tasks.Go(func() { task(ctx) })
	stop = func() { cancel(); tasks.Wait() }
	t.Cleanup(stop)
	return stop
}

// forever returns what runs a dialer that does not retire.
func forever(d *Dialer) func(context.Context) {
	return func(ctx context.Context) { d.Run(ctx, context.Background()) }
}

// listen returns a UDP socket on loopback.
func listen(t testing.TB, at string) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// serve runs a listener on a socket.
func serve(t testing.TB, l *Listener, conn *net.UDPConn) (stop func()) {
	t.Helper()
	return run(t, func(ctx context.Context) {
		if err := l.Serve(ctx, context.Background(), conn); err != nil {
			t.Error(err)
		}
	})
}
