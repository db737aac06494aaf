package upstream_test

import (
	"errors"
	"testing"

	"portredirector/internal/testnet/nstest"
	"portredirector/internal/upstream"
)

// TestFrozenServer freezes the first of two servers: its kernel accepts links, and nobody answers.
// After a link that is not answered peers go to the second, until the first answers again.
func TestFrozenServer(t *testing.T) {
	for name, pool := range map[string]int{"with a pool": 2, "without a pool": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := serve(t, "127.0.0.1:0"), serve(t, "127.0.0.1:0")
			ss := newServers(t, upstream.Config{Servers: []string{first.addr(), second.addr()}, PoolMin: pool, PoolMax: 2 * pool, Answers: true})
			l, _ := take(t, ss, new(upstream.Tried))
			l.Works()
			first.hangs.Store(true)
			unanswered, _ := take(t, ss, new(upstream.Tried))
			if unanswered.Server() != first.addr() {
				t.Fatalf("the first peer went to %s", unanswered.Server())
			}
			nstest.WaitFor(t, "peer for the second server", func() bool { return names(t, ss, 1) == second.addr() })
			nstest.WaitFor(t, "peer that is given back", func() bool { return errors.Is(unanswered.Lost(), upstream.ErrNoAnswer) })
			if err := ss.Unhealthy(); err != nil {
				t.Errorf("it is not healthy with the second server: %v", err)
			}
			first.hangs.Store(false)
			nstest.WaitFor(t, "peer for the first server", func() bool { return names(t, ss, 1) == first.addr() })
			if l, _ := take(t, ss, new(upstream.Tried)); l.Lost() != nil {
				t.Errorf("a link that was taken later is lost: %v", l.Lost())
			}
		})
	}
}

// TestOnlyServerIsFrozen wants a client without peers to find out that its only server hangs.
func TestOnlyServerIsFrozen(t *testing.T) {
	t.Parallel()
	server := serve(t, "127.0.0.1:0")
	ss := newServers(t, upstream.Config{Servers: []string{server.addr()}, PoolMin: 2, PoolMax: 2, Answers: true})
	nstest.WaitFor(t, "pool", func() bool { return server.count() == 2 })
	server.hangs.Store(true)
	nstest.WaitFor(t, "sign that it does not answer", func() bool { return errors.Is(ss.Unhealthy(), upstream.ErrNoAnswer) })
	server.hangs.Store(false)
	nstest.WaitFor(t, "sign that it is back", func() bool { return ss.Unhealthy() == nil })
}

// TestServerThatNeverAnswered bounds the links to a server that has answered nobody: no pool, and
// few peers. The others get theirs after the first answer.
func TestServerThatNeverAnswered(t *testing.T) {
	t.Parallel()
	server := serve(t, "127.0.0.1:0")
	server.hangs.Store(true)
	ss := newServers(t, upstream.Config{Servers: []string{server.addr()}, PoolMin: 8, PoolMax: 8, Answers: true})
	var given []upstream.Link
	for {
		l, ok := take(t, ss, new(upstream.Tried))
		if !ok {
			break
		}
		if given = append(given, l); l.Ready() || len(given) > 64 {
			t.Fatalf("link %d was given out, opened ahead: %v", len(given), l.Ready())
		}
	}
	given[0].Works()
	if _, ok := take(t, ss, new(upstream.Tried)); !ok {
		t.Error("no link after the first answer")
	}
}

// TestStuckReverseServer has the first of two attached servers open no links. Peers go to the second,
// also those that wait for the first, until the first opens a link.
func TestStuckReverseServer(t *testing.T) {
	t.Parallel()
	ss := newReverse(t, 1)
	first, second := attach(t, ss, "first"), attach(t, ss, "second")
	nstest.WaitFor(t, "requests", func() bool { return first.orders() > 0 && second.orders() > 0 })
	first.open(t)
	ahead := second.open(t)
	l, ok := take(t, ss, new(upstream.Tried)) // the first is asked for another in its place
	if !ok || l.Server() != "first" {
		t.Fatal("the first peer got no link of the first server")
	}
	peers := queued(t, ss, 3)
	nstest.WaitFor(t, "requests of the second for the peers that wait", func() bool { return second.orders() >= 4 })
	wantFD(t, peers[0], ahead)
	for _, p := range peers[1:] {
		wantFD(t, p, second.open(t))
	}
	nstest.WaitFor(t, "peer that is given back", func() bool { return errors.Is(l.Lost(), upstream.ErrNoAnswer) })
	fd := first.open(t)
	if l, ok := take(t, ss, new(upstream.Tried)); !ok || l.FD() != fd {
		t.Error("the server that is back has no peers")
	}
}

// TestQuietReverseServer asks a server for a link now and then, and notices that it opens none.
func TestQuietReverseServer(t *testing.T) {
	t.Parallel()
	ss := newServers(t, upstream.Config{Reverse: true, PoolMin: 1, PoolMax: 1, Heartbeat: 1})
	h := attach(t, ss, "home")
	for n := range 2 {
		nstest.WaitFor(t, "request", func() bool { return h.orders() > n })
		h.open(t)
	}
	nstest.WaitFor(t, "sign that it opens no links", func() bool { return ss.Unhealthy() != nil })
	h.open(t)
	if err := ss.Unhealthy(); err != nil {
		t.Errorf("it is not back: %v", err)
	}
}
