package reverse_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/limit"
	"portredirector/internal/logging"
	"portredirector/internal/reverse"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/upstream"
)

// both is a client and a server that know each other.
type both struct {
	*upstream.Servers

	log   *lines
	taken chan *auth.Session
	stop  func() // ends the server
}

// newBoth starts both ends. known tells whether the client knows the key of the server.
func newBoth(t *testing.T, known bool) both {
	t.Helper()
	clientKey, serverKey := auth.NewKey(), auth.NewKey()
	acceptor, err := auth.AcceptServers(clientKey, true)
	nstest.Must(t, err)
	dialer, err := auth.DialClients(serverKey, func(k auth.PublicKey) bool { return k == clientKey.Public() }, false)
	nstest.Must(t, err)
	b := both{log: new(lines), taken: make(chan *auth.Session, 100)}
	log := slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b.Servers = newServers(t, upstream.Config{Reverse: true, PoolMin: 4, PoolMax: 8, Heartbeat: time.Second, Log: log})
	l := &reverse.Listener{
		Servers: b.Servers, Auth: acceptor, Timeout: 5 * time.Second,
		Known:      func(k auth.PublicKey) (string, bool) { return "home", known && k == serverKey.Public() },
		Handshakes: limit.Oldest[netip.Prefix]{Most: 64}, Log: log, Heartbeat: time.Second, Throttle: logging.Throttle[netip.Prefix]{To: log},
	}
	from, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	nstest.Must(t, err)
	c := &reverse.Dialer{
		Clients: []string{from.Addr().String()}, Auth: dialer, ConnectTimeout: 5 * time.Second, Heartbeat: time.Second, Log: log,
		Take: func(s *auth.Session, _ netip.AddrPort) { b.taken <- s },
	}
	var serving, calling sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	cctx, hangUp := context.WithCancel(context.Background())
	serving.Go(func() { _ = l.Serve(ctx, from) })
	calling.Go(func() { c.Run(cctx) })
	b.stop = func() {
		hangUp()
		calling.Wait()
	}
	t.Cleanup(func() {
		b.stop()
		cancel()
		serving.Wait()
		l.Throttle.Flush()
		for {
			select {
			case s := <-b.taken:
				socket.Close(s.FD)
			default:
				return
			}
		}
	})
	return b
}

// TestDialedByTheServer: the pool is filled over links that the server has opened, of which both ends are sure; when the
// server ends it is left out, and what was ahead is closed.
func TestDialedByTheServer(t *testing.T) {
	b := newBoth(t, true)
	nstest.WaitFor(t, "the pool", func() bool { return len(b.taken) == 4 })
	l, ok := take(t, b.Servers, new(upstream.Tried))
	if !ok || l.Session() == nil || l.Session().Conn == nil || l.Server() != "home" {
		t.Fatalf("no link that is sure: %v", ok)
	}
	nstest.WaitFor(t, "one more in its place", func() bool { return len(b.taken) >= 5 })
	b.stop()
	nstest.WaitFor(t, "the server to be left out", func() bool { return b.log.count("server has gone") == 1 })
	wantNone(t, b.Servers)
}

// TestUnknownServer: one whose key is not known is told so, and gets nothing.
func TestUnknownServer(t *testing.T) {
	b := newBoth(t, false)
	nstest.WaitFor(t, "both ends to say why", func() bool {
		return b.log.count("link refused", "server's key is not known here") > 0 &&
			b.log.count("client cannot be reached", "does not know this end's key") > 0
	})
	if len(b.taken) > 0 || b.log.count("server has dialed") > 0 {
		t.Error("it got links")
	}
}

// TestNoDescriptorIsLeft: at the end there is no descriptor left, of links that wait, are given out or come late.
func TestNoDescriptorIsLeft(t *testing.T) {
	before := nstest.Descriptors(t, os.Getpid())
	t.Run("life", func(t *testing.T) {
		b := newBoth(t, true)
		nstest.WaitFor(t, "the pool", func() bool { return len(b.taken) >= 4 })
		for range 10 {
			tried := new(upstream.Tried)
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			l, ok, err := b.Take(tried)
			if !ok && err == nil {
				l, err = b.Wait(ctx, tried)
			}
			cancel()
			nstest.Must(t, err)
			socket.Close(l.FD())
			l.Leave()
		}
		nstest.WaitFor(t, "the pool again", func() bool { return len(b.taken) >= 14 })
	})
	nstest.WaitFor(t, fmt.Sprint(before, " descriptors"), func() bool { return nstest.Descriptors(t, os.Getpid()) <= before })
}
