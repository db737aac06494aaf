package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/upstream"
	"portredirector/internal/wire"
)

// fake is a server that counts the links that come to it, answers probes, and says nothing else.
type fake struct {
	*net.TCPListener

	hangs  atomic.Bool  // it answers no probe
	probes atomic.Int64 // that it has answered
	tasks  sync.WaitGroup

	mu    sync.Mutex
	conns []*net.TCPConn // guarded by mu
}

// hear answers a probe. The link may carry peers then.
func (f *fake) hear(c *net.TCPConn) {
	h, _, err := wire.Read(c)
	if err != nil || !h.Local || f.hangs.Load() {
		return
	}
	f.probes.Add(1)
	_, _ = c.Write(wire.AppendFrame(nil, wire.KindStatus, byte(wire.Connected)))
}

// serve starts one. addr may have port 0.
func serve(t *testing.T, addr string) *fake {
	t.Helper()
	var l net.Listener
	var err error
	for range 100 { // what listened there before may not be gone yet
		if l, err = net.Listen("tcp", addr); !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	nstest.Must(t, err)
	f := &fake{TCPListener: l.(*net.TCPListener)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := f.AcceptTCP()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns = append(f.conns, c)
			f.mu.Unlock()
			f.tasks.Go(func() { f.hear(c) })
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
		f.hangUp()
		f.tasks.Wait()
	})
	return f
}

func (f *fake) addr() string { return f.Addr().String() }

// count returns the number of links so far.
func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.conns)
}

// hangUp closes the links so far.
func (f *fake) hangUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		_ = c.Close()
	}
	f.conns = nil
}

// newServers returns servers that run until the test is over.
func newServers(t *testing.T, cfg upstream.Config) *upstream.Servers {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	ls := upstream.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = ls.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return ls
}

// take takes a link. The test closes it at its end.
func take(t *testing.T, ls *upstream.Servers, tried *upstream.Tried) (upstream.Link, bool) {
	t.Helper()
	l, ok, err := ls.Take(tried)
	nstest.Must(t, err)
	if ok {
		t.Cleanup(func() { socket.Close(l.FD()) })
	}
	return l, ok
}

// wait waits for a link.
func wait(t *testing.T, ls *upstream.Servers, tried *upstream.Tried) upstream.Link {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	l, err := ls.Wait(ctx, tried)
	nstest.Must(t, err)
	t.Cleanup(func() { socket.Close(l.FD()) })
	return l
}

// names returns the servers that n peers get.
func names(t *testing.T, ls *upstream.Servers, n int) string {
	t.Helper()
	var all []string
	for range n {
		l, ok := take(t, ls, new(upstream.Tried))
		if !ok {
			t.Fatal("there is no link")
		}
		all = append(all, l.Server())
	}
	return strings.Join(all, " ")
}

func TestBalance(t *testing.T) {
	a, b, c := serve(t, "127.0.0.1:0").addr(), serve(t, "127.0.0.1:0").addr(), serve(t, "[::1]:0").addr()
	servers := []string{a, b, c}
	t.Run("failover", func(t *testing.T) {
		ls := newServers(t, upstream.Config{Servers: servers})
		if got, want := names(t, ls, 3), strings.Join([]string{a, a, a}, " "); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
	t.Run("round-robin", func(t *testing.T) {
		ls := newServers(t, upstream.Config{Servers: servers, Balance: upstream.RoundRobin})
		if got, want := names(t, ls, 7), strings.Join([]string{a, b, c, a, b, c, a}, " "); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
	t.Run("least-peers", func(t *testing.T) {
		ls := newServers(t, upstream.Config{Servers: servers, Balance: upstream.LeastPeers})
		first, _ := take(t, ls, new(upstream.Tried))
		second, _ := take(t, ls, new(upstream.Tried))
		if got, want := names(t, ls, 3), strings.Join([]string{c, a, b}, " "); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		second.Leave()
		_ = first
		if got, want := names(t, ls, 2), strings.Join([]string{b, c}, " "); got != want {
			t.Errorf("got %s, want %s after a peer of the second has left", got, want)
		}
	})
	t.Run("tried", func(t *testing.T) {
		for _, how := range []upstream.Balance{upstream.Failover, upstream.RoundRobin, upstream.LeastPeers} {
			ls := newServers(t, upstream.Config{Servers: servers, Balance: how})
			var tried upstream.Tried
			var got []string
			for range 3 {
				l, ok := take(t, ls, &tried)
				if !ok {
					t.Fatalf("%s: none after %s", how, got)
				}
				got = append(got, l.Server())
				tried.Add(l)
			}
			if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(servers))) {
				t.Errorf("%s: got %s", how, got)
			}
			if l, ok := take(t, ls, &tried); ok {
				t.Errorf("%s: got %s once more", how, l.Server())
			}
			if _, err := ls.Wait(t.Context(), &tried); err == nil {
				t.Errorf("%s: one came when all were tried", how)
			}
		}
	})
}

// TestLeftOutAndBack: a server that fails gets no peers until it works again, and is
// tried without any.
func TestLeftOutAndBack(t *testing.T) {
	for _, pool := range []int{0, 3} {
		t.Run(fmt.Sprint("pool of ", pool), func(t *testing.T) {
			first, second := serve(t, "127.0.0.1:0"), serve(t, "127.0.0.1:0")
			ls := newServers(t, upstream.Config{Servers: []string{first.addr(), second.addr()}, PoolMin: pool, PoolMax: pool, Answers: true})
			l, _ := take(t, ls, new(upstream.Tried))
			nstest.Must(t, first.Close())
			first.hangUp()
			l.Fail(errors.New("it is away"))
			if got, want := names(t, ls, 3), strings.Join([]string{second.addr(), second.addr(), second.addr()}, " "); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			back := serve(t, first.addr())
			nstest.WaitFor(t, "peer for the first", func() bool { return names(t, ls, 1) == back.addr() })
		})
	}
}

// TestRefusedConnect: a server that refuses is found out by a connect, whoever looks.
func TestRefusedConnect(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	nstest.Must(t, err)
	refusing, works := l.Addr().String(), serve(t, "127.0.0.1:0")
	nstest.Must(t, l.Close())
	ls := newServers(t, upstream.Config{Servers: []string{refusing, works.addr()}, PoolMin: 2, PoolMax: 2, Answers: true})
	// Without any peer: the pool's links are refused.
	nstest.WaitFor(t, "other server", func() bool { return names(t, ls, 1) == works.addr() })
}

// TestWaitForTheOnly: peers wait for a server that is away, are served when it is
// back, and are told why if it is not in time.
func TestWaitForTheOnly(t *testing.T) {
	server := serve(t, "127.0.0.1:0")
	nstest.Must(t, server.Close())
	ls := newServers(t, upstream.Config{Servers: []string{server.addr()}})
	l, ok := take(t, ls, new(upstream.Tried))
	if !ok {
		t.Fatal("a server is left out before it has failed")
	}
	l.Fail(syscall.ECONNREFUSED)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := ls.Wait(ctx, new(upstream.Tried)); !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), server.addr()) {
		t.Errorf("it ended with %v", err)
	}
	var waiting sync.WaitGroup
	for range 20 {
		waiting.Go(func() {
			if l := wait(t, ls, new(upstream.Tried)); l.Server() != server.addr() {
				t.Errorf("got a link to %s", l.Server())
			}
		})
	}
	time.Sleep(100 * time.Millisecond)
	serve(t, server.addr())
	waiting.Wait()
}

// TestGivesBackLinks: what nobody has taken is closed at the end.
func TestGivesBackLinks(t *testing.T) {
	server := serve(t, "127.0.0.1:0")
	ls := upstream.New(upstream.Config{
		Servers: []string{server.addr()}, PoolMin: 5, PoolMax: 5, ConnectTimeout: time.Second, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- ls.Run(ctx) }()
	nstest.WaitFor(t, "pool", func() bool { return server.count() == 5 })
	cancel()
	nstest.Must(t, <-ended)
	server.mu.Lock()
	defer server.mu.Unlock()
	for _, c := range server.conns {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := c.Read(make([]byte, 1)); n != 0 || errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			t.Errorf("a link lives on: %d, %v", n, err)
		}
	}
}

func isTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}
