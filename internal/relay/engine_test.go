package relay_test

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"portredirector/internal/relay"
	"portredirector/internal/testnet/nstest"
)

// TestMeterCountsLive checks that a meter counts while its pair lives.
func TestMeterCountsLive(t *testing.T) {
	peer, acceptedEnd := tcpPair(t)
	dialedEnd, service := tcpPair(t)
	m := new(relay.Meter)
	newEngine(t, relay.Options{}).Relay(relay.Pair{Meter: m, Accepted: detach(t, acceptedEnd), Dialed: detach(t, dialedEnd)})
	nstest.Must(t, second(peer.Write(make([]byte, 1000))))
	nstest.Must(t, second(io.ReadFull(service, make([]byte, 1000))))
	nstest.WaitFor(t, "the meter", func() bool { return m.Up() == 1000 && m.Down() == 0 })
	nstest.Must(t, second(service.Write(make([]byte, 10))))
	nstest.Must(t, second(io.ReadFull(peer, make([]byte, 10))))
	nstest.WaitFor(t, "the meter", func() bool { return m.Up() == 1000 && m.Down() == 10 })
	_, _ = peer.Close(), service.Close()
}

// TestMeterCut cuts a live pair, and one that gets its meter later.
func TestMeterCut(t *testing.T) {
	t.Parallel()
	engine := newEngine(t, relay.Options{})
	for name, late := range map[string]bool{"live": false, "before it is relayed": true} {
		t.Run(name, func(t *testing.T) {
			peer, acceptedEnd := tcpPair(t)
			dialedEnd, service := tcpPair(t)
			m, ended := new(relay.Meter), make(chan relay.Result, 1)
			p := relay.Pair{Meter: m, Accepted: detach(t, acceptedEnd), Dialed: detach(t, dialedEnd), Done: func(r relay.Result) { ended <- r }}
			if late {
				m.Cut()
				engine.Relay(p)
			} else {
				engine.Relay(p)
				nstest.Must(t, second(peer.Write([]byte("x"))))
				nstest.Must(t, second(io.ReadFull(service, make([]byte, 1))))
				m.Cut()
			}
			if r := <-ended; r.End != relay.Cut || !errors.Is(r.Err, relay.ErrClosed) {
				t.Errorf("it has ended as %+v, want cut", r)
			}
			wantReset(t, peer)
			wantReset(t, service)
			m.Cut() // it has ended
		})
	}
}

func second[T any](_ T, err error) error { return err }

// TestIdleTimeout checks that an idle pair ends, and one that carries something lives.
func TestIdleTimeout(t *testing.T) {
	r := newRig(t, relay.Options{IdleTimeout: 2 * time.Second}, plain)
	for range 4 { // longer than the time-out in all
		nstest.Must(t, second(r.peer.Write([]byte("x"))))
		nstest.Must(t, second(io.ReadFull(r.service, make([]byte, 1))))
		time.Sleep(time.Second)
	}
	r.wantResult(t, 4, 0, relay.Idle)
	wantReset(t, r.peer)
	wantReset(t, r.service)
}

// TestHalfCloseTimeout checks that the time-out ends only pairs of which one direction has
// ended.
func TestHalfCloseTimeout(t *testing.T) {
	o := relay.Options{HalfCloseTimeout: time.Second}
	half, whole := newRig(t, o, plain), newRig(t, o, plain)
	halfClose(t, half.peer, half.service)
	half.wantResult(t, 0, 0, relay.Idle)
	wantReset(t, half.service)
	nstest.Must(t, second(whole.peer.Write([]byte("x"))))
	nstest.Must(t, second(io.ReadFull(whole.service, make([]byte, 1))))
}

// TestIdlePairsAreLean checks that an idle pair has no goroutine, and two descriptors in
// the engine.
func TestIdlePairsAreLean(t *testing.T) {
	engine := newEngine(t, relay.Options{})
	fds, goroutines := descriptors(t), runtime.NumGoroutine()
	const pairs = 200
	for range pairs {
		peer, acceptedEnd := tcpPair(t)
		dialedEnd, service := tcpPair(t)
		engine.Relay(relay.Pair{Accepted: detach(t, acceptedEnd), Dialed: detach(t, dialedEnd)})
		t.Cleanup(func() { _, _ = peer.Close(), service.Close() })
		nstest.Must(t, second(peer.Write([]byte("x"))))
		nstest.Must(t, second(io.ReadFull(service, make([]byte, 1))))
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines more", n-goroutines)
	}
	// Two are the engine's, two are the test's own.
	if n := descriptors(t) - fds; n > 4*pairs {
		t.Errorf("%d descriptors for %d pairs", n, pairs)
	}
}

// TestPipesAreBorrowed checks that a pair which carried much and is idle again has
// returned its pipe.
func TestPipesAreBorrowed(t *testing.T) {
	engine := newEngine(t, relay.Options{Loops: 1})
	fds := descriptors(t)
	const pairs, kept = 50, 2 * 16 // what the loop keeps, two descriptors each
	for range pairs {
		peer, acceptedEnd := tcpPair(t)
		dialedEnd, service := tcpPair(t)
		engine.Relay(relay.Pair{Accepted: detach(t, acceptedEnd), Dialed: detach(t, dialedEnd)})
		t.Cleanup(func() { _, _ = peer.Close(), service.Close() })
		sent := make(chan error, 1)
		const much = 1 << 20
		go func() { sent <- second(peer.Write(make([]byte, much))) }()
		nstest.Must(t, second(io.CopyN(io.Discard, service, much)))
		nstest.Must(t, <-sent)
	}
	nstest.WaitFor(t, "the pipes to come back", func() bool { return descriptors(t)-fds <= 4*pairs+kept })
}

// TestBulkDoesNotStarve checks that an echo gets through beside streams that never end.
func TestBulkDoesNotStarve(t *testing.T) {
	engine := newEngine(t, relay.Options{Loops: 1})
	connect := func() (a, b io.ReadWriteCloser) {
		peer, acceptedEnd := tcpPair(t)
		dialedEnd, service := tcpPair(t)
		engine.Relay(relay.Pair{Accepted: detach(t, acceptedEnd), Dialed: detach(t, dialedEnd)})
		t.Cleanup(func() { _, _ = peer.Close(), service.Close() })
		return peer, service
	}
	for range 4 {
		from, to := connect()
		go func() { _, _ = io.Copy(from, endless{}) }()
		go func() { _, _ = io.Copy(io.Discard, to) }()
	}
	peer, service := connect()
	go func() { _, _ = io.Copy(service, service) }()
	msg := bytes.Repeat([]byte("e"), 64)
	for range 200 {
		nstest.Must(t, second(peer.Write(msg)))
		nstest.Must(t, second(io.ReadFull(peer, make([]byte, len(msg)))))
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// TestLeaks lets 100,000 pairs come and go and compares descriptors and
// memory.
func TestLeaks(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	engine := newEngine(t, relay.Options{})
	var ended atomic.Int64
	batch := func(n int) {
		ended.Store(0)
		for i := range n {
			peer, acceptedEnd := tcpPair(t)
			dialedEnd, service := tcpPair(t)
			engine.Relay(relay.Pair{Accepted: detach(t, acceptedEnd), Dialed: detach(t, dialedEnd), Done: func(relay.Result) { ended.Add(1) }})
			if i%4 == 0 {
				_, _ = peer.Write([]byte("hello"))
			}
			resetting(peer) // nothing of 30,000 pairs stays in TIME_WAIT
			if i%2 == 0 {
				resetting(service)
			} else {
				_ = service.Close()
			}
		}
		nstest.WaitFor(t, "every pair to end", func() bool { return ended.Load() == int64(n) })
	}
	batch(2000)
	fds, mem := descriptors(t), memory(t)
	batch(28_000)
	if n := descriptors(t); n > fds {
		t.Errorf("%d descriptors more", n-fds)
	}
	if grown := memory(t) - mem; grown > 1<<20 {
		t.Errorf("%d KiB more", grown>>10)
	}
	if n := engine.Len(); n != 0 {
		t.Errorf("%d pairs are left", n)
	}
}

// memory returns the heap in use, in bytes.
func memory(t *testing.T) int64 {
	t.Helper()
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}
