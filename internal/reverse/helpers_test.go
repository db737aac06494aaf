package reverse_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/upstream"
)

// newLinks are links that run until the test is over.
func newLinks(t *testing.T, cfg upstream.Config) *upstream.Servers {
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

// take takes a link, which the test closes at its end.
func take(t *testing.T, ls *upstream.Servers, tried *upstream.Tried) (upstream.Link, bool) {
	t.Helper()
	l, ok, err := ls.Take(tried)
	nstest.Must(t, err)
	if ok {
		t.Cleanup(func() { socket.Close(l.FD()) })
	}
	return l, ok
}

// wantNone has a peer come, find no link, and go.
func wantNone(t *testing.T, ls *upstream.Servers) {
	t.Helper()
	tried := new(upstream.Tried)
	if _, ok := take(t, ls, tried); ok {
		t.Error("a link was there")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if l, err := ls.Wait(ctx, tried); err == nil {
		t.Error("it waited for nothing, and got a link")
		socket.Close(l.FD())
	}
}

// lines are what the log has.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// count is how many have certain words.
func (l *lines) count(words ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			n++
		}
	}
	return n
}
