package reverse_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
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

// gate is a client's port for servers.
type gate struct {
	*reverse.Listener

	at  string
	log *lines
	own auth.PublicKey
}

// newGate has a client take servers; set has it be as the test wants.
func newGate(t *testing.T, set func(*reverse.Listener)) *gate {
	t.Helper()
	own := auth.NewKey()
	acceptor, err := auth.AcceptServers(own, false)
	nstest.Must(t, err)
	g := &gate{log: new(lines), own: own.Public()}
	log := slog.New(slog.NewTextHandler(g.log, nil))
	g.Listener = &reverse.Listener{
		Servers: newLinks(t, upstream.Config{Reverse: true, PoolMin: 1, PoolMax: 8, Heartbeat: time.Second, Log: log}),
		Auth:    acceptor, Timeout: 5 * time.Second, Log: log, Heartbeat: time.Second, Throttle: logging.Throttle[netip.Prefix]{To: log},
	}
	set(g.Listener)
	from, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	nstest.Must(t, err)
	g.at = from.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { _ = g.Serve(ctx, from) })
	t.Cleanup(func() {
		cancel()
		serving.Wait()
		g.Throttle.Flush()
	})
	return g
}

// callers are a server with a key, which dials it.
func (g *gate) callers(t *testing.T, own auth.PrivateKey, log *slog.Logger) *reverse.Dialer {
	t.Helper()
	dialer, err := auth.DialClients(own, func(k auth.PublicKey) bool { return k == g.own }, false)
	nstest.Must(t, err)
	return &reverse.Dialer{Clients: []string{g.at}, Auth: dialer, ConnectTimeout: 5 * time.Second, Heartbeat: time.Second, Log: log}
}

// TestStrangersThatJoin: whoever says that he wants to join, and then nothing, counts as one whose handshake lasts.
func TestStrangersThatJoin(t *testing.T) {
	const most, many = 4, 20
	var inside atomic.Int64
	g := newGate(t, func(l *reverse.Listener) {
		l.Known = func(auth.PublicKey) (string, bool) { return "", false }
		l.Admit = func(s *auth.Stream, _ auth.PublicKey) error {
			inside.Add(1)
			defer inside.Add(-1)
			_, err := s.Read(make([]byte, 1))
			return err
		}
		l.Timeout = time.Minute
		l.Handshakes = limit.Oldest[netip.Prefix]{Most: most}
	})
	c := g.callers(t, auth.NewKey(), slog.New(slog.DiscardHandler))
	c.ConnectTimeout = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	var strangers sync.WaitGroup
	defer strangers.Wait()
	defer cancel()
	for range many {
		joins := make(chan struct{})
		strangers.Go(func() {
			err := c.Visit(ctx, g.at, auth.Join, func(s *auth.Stream) error {
				close(joins)
				_, err := s.Read(make([]byte, 1))
				return err
			})
			if err == nil {
				t.Error("it was told something")
			}
		})
		<-joins // the next comes when this one has had its handshake
	}
	nstest.WaitFor(t, "end of those that are too many", func() bool { return inside.Load() <= most })
}

// TestNoInvitations: a client that takes none refuses who wants to join, whether it knows the key or not.
func TestNoInvitations(t *testing.T) {
	for _, known := range []bool{true, false} {
		g := newGate(t, func(l *reverse.Listener) {
			l.Known = func(auth.PublicKey) (string, bool) { return "home", known }
		})
		c := g.callers(t, auth.NewKey(), slog.New(slog.DiscardHandler))
		err := c.Visit(t.Context(), g.at, auth.Join, func(s *auth.Stream) error {
			_, err := io.ReadAll(s)
			return err
		})
		if err == nil {
			t.Error("it let a server join")
		}
		nstest.WaitFor(t, "why in the log", func() bool { return g.log.count("link refused", "takes no invitations") == 1 })
	}
}

// TestSameKeyTwice: of two servers with the same key the one that dialed last has the peers; when it goes the other has
// them again.
func TestSameKeyTwice(t *testing.T) {
	own := auth.NewKey()
	g := newGate(t, func(l *reverse.Listener) {
		l.Known = func(k auth.PublicKey) (string, bool) { return "home", k == own.Public() }
	})
	type server struct {
		links atomic.Int64
		stop  func()
	}
	begin := func() *server {
		s := new(server)
		c := g.callers(t, own, slog.New(slog.DiscardHandler))
		c.Take = func(session *auth.Session, _ netip.AddrPort) {
			s.links.Add(1)
			t.Cleanup(func() { socket.Close(session.FD) })
		}
		ctx, cancel := context.WithCancel(t.Context())
		var calling sync.WaitGroup
		calling.Go(func() { c.Run(ctx) })
		s.stop = func() {
			cancel()
			calling.Wait()
		}
		t.Cleanup(s.stop)
		return s
	}
	first := begin()
	nstest.WaitFor(t, "a link of the first", func() bool { return first.links.Load() > 0 })
	had := first.links.Load()
	second := begin()
	nstest.WaitFor(t, "a link of the second", func() bool { return second.links.Load() > 0 })
	second.stop()
	nstest.WaitFor(t, "a link of the first again", func() bool { return first.links.Load() > had })
	if n := g.log.count("server has dialed"); n != 3 {
		t.Errorf("servers dialed %d times, want 3", n)
	}
}

// TestKeyIsTakenAway: a server whose key is known no more is left out, and the log says why.
func TestKeyIsTakenAway(t *testing.T) {
	own := auth.NewKey()
	var away atomic.Bool
	g := newGate(t, func(l *reverse.Listener) {
		l.Known = func(auth.PublicKey) (string, bool) { return "home", !away.Load() }
	})
	c := g.callers(t, own, slog.New(slog.DiscardHandler))
	c.Take = func(session *auth.Session, _ netip.AddrPort) { t.Cleanup(func() { socket.Close(session.FD) }) }
	ctx, cancel := context.WithCancel(t.Context())
	var calling sync.WaitGroup
	calling.Go(func() { c.Run(ctx) })
	t.Cleanup(calling.Wait)
	t.Cleanup(cancel)
	nstest.WaitFor(t, "the server", func() bool { return g.log.count("server has dialed") == 1 })
	away.Store(true)
	nstest.WaitFor(t, "why it is left out", func() bool { return g.log.count("server has gone", "server's key is not known here") == 1 })
}

// TestOnlyOneEndIsAuthOnly: the control stream is as ever, and links are refused. Both ends say why, the server once.
func TestOnlyOneEndIsAuthOnly(t *testing.T) {
	own := auth.NewKey()
	g := newGate(t, func(l *reverse.Listener) {
		l.Known = func(k auth.PublicKey) (string, bool) { return "home", k == own.Public() }
	})
	dialer, err := auth.DialClients(own, func(k auth.PublicKey) bool { return k == g.own }, true)
	nstest.Must(t, err)
	said := new(lines)
	c := g.callers(t, own, slog.New(slog.NewTextHandler(said, nil)))
	c.Auth = dialer
	ctx, cancel := context.WithCancel(t.Context())
	var calling sync.WaitGroup
	calling.Go(func() { c.Run(ctx) })
	t.Cleanup(calling.Wait)
	t.Cleanup(cancel)
	nstest.WaitFor(t, "why in both logs", func() bool {
		return said.count("client refuses links of this server", "does not take links that are only authenticated") == 1 && g.log.count("link refused", "wants links that are only authenticated") == 1
	})
	now, end := context.WithCancel(t.Context())
	end()
	for range 3 { // each has one more link asked for
		if _, ok, err := g.Servers.Open(now, new(upstream.Tried)); ok || err == nil {
			t.Error("there is a link")
		}
	}
	time.Sleep(100 * time.Millisecond)
	if n := said.count("client refuses links of this server"); n != 1 {
		t.Errorf("the server says it %d times", n)
	}
}
