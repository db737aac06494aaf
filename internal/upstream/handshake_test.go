package upstream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/upstream"
	"portredirector/internal/wire"
)

// authServer is a server with a key, which may change.
type authServer struct {
	*net.TCPListener

	right   auth.PrivateKey // that clients want
	own     atomic.Pointer[auth.Acceptor]
	judge   atomic.Pointer[func() (wire.Status, error)] // nil takes everybody
	asked   atomic.Int32                                // handshakes that have come so far
	under   atomic.Int32                                // handshakes that wait for the judge
	answers atomic.Bool                                 // it answers probes
	tasks   sync.WaitGroup

	mu       sync.Mutex
	most     int32           // that waited at a time; guarded by mu
	sessions []*auth.Session // guarded by mu
}

func serveAuth(t *testing.T) *authServer {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	nstest.Must(t, err)
	s := &authServer{TCPListener: l, right: auth.NewKey()}
	s.use(t, s.right)
	ctx, cancel := context.WithCancel(context.Background())
	s.tasks.Go(func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			fd, err := socket.Detach(c)
			if err != nil {
				continue
			}
			s.tasks.Go(func() { s.handshake(ctx, fd) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		cancel()
		s.tasks.Wait()
		s.hangUp()
	})
	return s
}

func (s *authServer) handshake(ctx context.Context, fd int) {
	defer s.asked.Add(1)
	session, err := s.own.Load().Accept(ctx, fd, nil, func(auth.Identity) (wire.Status, error) {
		n := s.under.Add(1)
		defer s.under.Add(-1)
		s.mu.Lock()
		s.most = max(s.most, n)
		s.mu.Unlock()
		if judge := s.judge.Load(); judge != nil {
			return (*judge)()
		}
		return wire.Connected, nil
	})
	if err != nil {
		return
	}
	s.mu.Lock()
	s.sessions = append(s.sessions, session)
	s.mu.Unlock()
	if s.answers.Load() { // else closing must not wait for a poll(2)
		s.tasks.Go(func() { s.hear(ctx, session) })
	}
}

// hear answers a probe. The link may carry peers then.
func (s *authServer) hear(ctx context.Context, session *auth.Session) {
	said := make([]byte, 0, 1024)
	for {
		if socket.WaitReadable(ctx, session.FD) != nil {
			return
		}
		b := make([]byte, 1024)
		n, err := s.read(session, b)
		if n <= 0 && !errors.Is(err, syscall.EAGAIN) {
			return
		}
		said = append(said, b[:max(n, 0)]...)
		read := func() (wire.Header, error) {
			if session.Conn != nil {
				h, _, err := wire.Read(bytes.NewReader(said))
				return h, err
			}
			h, _, err := wire.ReadSealed(bytes.NewReader(said), session.HeaderKey, 0)
			return h, err
		}
		if h, err := read(); errors.Is(err, io.ErrUnexpectedEOF) {
			continue
		} else if err != nil || !h.Local {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		answer := wire.AppendFrame(nil, wire.KindStatus, byte(wire.Connected))
		if !slices.Contains(s.sessions, session) {
			return
		}
		if session.Conn != nil {
			_, _ = session.Conn.Write(answer)
		} else {
			_ = socket.Send(session.FD, answer)
		}
		return
	}
}

// read reads from a session that is not closed.
func (s *authServer) read(session *auth.Session, b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !slices.Contains(s.sessions, session):
		return 0, net.ErrClosed
	case session.Conn != nil:
		return session.Conn.Read(b)
	default:
		return syscall.Read(session.FD, b)
	}
}

// use changes the key of the server.
func (s *authServer) use(t *testing.T, own auth.PrivateKey) {
	t.Helper()
	a, err := auth.AcceptWithKey(own, true)
	nstest.Must(t, err)
	s.own.Store(a)
}

// judges sets what the server decides about a handshake.
func (s *authServer) judges(f func() (wire.Status, error)) { s.judge.Store(&f) }

// count returns the number of links.
func (s *authServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

func (s *authServer) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, session := range s.sessions {
		socket.Close(session.FD)
	}
	s.sessions = nil
}

// config returns the configuration of links to the server.
func (s *authServer) config(t *testing.T, only bool) upstream.Config {
	t.Helper()
	d, err := auth.DialWithKey(auth.NewKey(), []auth.PublicKey{s.right.Public()}, only)
	nstest.Must(t, err)
	return upstream.Config{Servers: []string{s.Addr().String()}, Auth: d}
}

// wantAuth fails the test unless a link is authenticated and leads to the server.
func wantAuth(t *testing.T, l upstream.Link, s *authServer, only bool) {
	t.Helper()
	session := l.Session()
	if session == nil {
		t.Fatal("it is plain")
	}
	if session.FD != l.FD() || session.Identity.Key != s.right.Public() || (session.Conn == nil) != only || (session.HeaderKey != nil) != only {
		t.Errorf("the session is %+v", session)
	}
	if !socket.Look(l.FD()).Connected {
		t.Error("it is not connected")
	}
}

// open opens a link. The test closes it at its end.
func open(t *testing.T, ls *upstream.Servers) (upstream.Link, bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	l, ok, err := ls.Open(ctx, new(upstream.Tried))
	nstest.Must(t, err)
	if ok {
		t.Cleanup(func() { socket.Close(l.FD()) })
	}
	return l, ok
}

// tryTake is like take, for a peer that does not wait.
func tryTake(t *testing.T, ls *upstream.Servers) (upstream.Link, bool) {
	t.Helper()
	tried := new(upstream.Tried)
	if l, ok := take(t, ls, tried); ok {
		return l, true
	}
	now, cancel := context.WithCancel(t.Context())
	cancel()
	l, ok, _ := ls.Open(now, tried) // leaves the queue
	if ok {
		t.Cleanup(func() { socket.Close(l.FD()) })
	}
	return l, ok
}

func bothKinds(t *testing.T, test func(t *testing.T, only bool)) {
	t.Helper()
	t.Run("encrypted", func(t *testing.T) { test(t, false) })
	t.Run("authenticated", func(t *testing.T) { test(t, true) })
}

// TestSecuredPool: links of which both ends are sure are there before anybody takes one,
// and each that is taken is replaced.
func TestSecuredPool(t *testing.T) {
	bothKinds(t, func(t *testing.T, only bool) {
		s := serveAuth(t)
		cfg := s.config(t, only)
		cfg.PoolMin, cfg.PoolMax, cfg.Answers = 4, 10, true
		s.answers.Store(true)
		ls := newServers(t, cfg)
		asked := uint64(0)
		for range 12 {
			var l upstream.Link
			nstest.WaitFor(t, "link opened ahead", func() (ok bool) {
				l, ok = tryTake(t, ls)
				return ok
			})
			wantAuth(t, l, s, only)
			if !l.Ready() {
				t.Error("it is not said to be opened ahead")
			}
			asked += l.Carried()
			if l.Session().Conn != nil {
				_, err := l.Session().Conn.Write([]byte("hello"))
				nstest.Must(t, err)
			}
		}
		nstest.WaitFor(t, "link over which the server was asked", func() bool {
			if asked == 0 {
				l, _ := tryTake(t, ls)
				asked += l.Carried()
			}
			return asked == 1
		})
	})
}

// TestSecuredPoolOfTheDead: what the server has closed is given to nobody.
func TestSecuredPoolOfTheDead(t *testing.T) {
	s := serveAuth(t)
	cfg := s.config(t, false)
	cfg.PoolMin, cfg.PoolMax, cfg.Answers = 8, 8, true
	s.answers.Store(true)
	ls := newServers(t, cfg)
	nstest.WaitFor(t, "pool", func() bool { return s.count() >= 8 })
	s.hangUp()
	dead := 0
	for range 16 {
		l := wait(t, ls, new(upstream.Tried)) // the server is left out if a handshake was under way
		if !socket.Look(l.FD()).Connected {
			dead++
			continue
		}
		wantAuth(t, l, s, false)
	}
	if dead > 4 { // else they were at the server, and not in the pool yet
		t.Errorf("%d links are dead", dead)
	}
}

// TestSecuredWithoutPool: nothing is at hand then, and one is opened for who waits for it.
func TestSecuredWithoutPool(t *testing.T) {
	bothKinds(t, func(t *testing.T, only bool) {
		s := serveAuth(t)
		ls := newServers(t, s.config(t, only))
		for i := range 3 {
			if l, ok := tryTake(t, ls); ok {
				t.Fatalf("%d was at hand", l.FD())
			}
			l, ok := open(t, ls)
			if !ok {
				t.Fatal("there is none")
			}
			wantAuth(t, l, s, only)
			nstest.WaitFor(t, "link at the server", func() bool { return s.count() >= i+1 })
		}
	})
}

// TestSecuredEmptyPool: also where a pool has nothing yet; and who waits does not wait for
// the server, of which nothing is wrong.
func TestSecuredEmptyPool(t *testing.T) {
	s := serveAuth(t)
	cfg := s.config(t, false)
	cfg.PoolMax = 5
	ls := newServers(t, cfg)
	if _, ok := tryTake(t, ls); ok {
		t.Error("one was at hand")
	}
	l, ok := open(t, ls)
	if !ok {
		t.Fatal("there is none")
	}
	wantAuth(t, l, s, false)
	wantAuth(t, wait(t, ls, new(upstream.Tried)), s, false)
}

// runServers runs servers with a log until stop is called.
func runServers(t *testing.T, cfg upstream.Config) (ls *upstream.Servers, log *lines, stop func()) {
	t.Helper()
	log = new(lines)
	cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 20 * time.Second
	}
	ls = upstream.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- ls.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		nstest.Must(t, <-ended)
	})
	t.Cleanup(stop)
	return ls, log, stop
}

// TestWrongKey: a server with another key than it should have is left out, which is told
// once; and it is back when it has the right one.
func TestWrongKey(t *testing.T) {
	for _, pool := range []int{0, 3} {
		t.Run(fmt.Sprint("pool of ", pool), func(t *testing.T) {
			s := serveAuth(t)
			s.use(t, auth.NewKey())
			cfg := s.config(t, false)
			cfg.PoolMin, cfg.PoolMax = pool, pool
			ls, log, _ := runServers(t, cfg)
			if l, ok := open(t, ls); ok {
				t.Fatalf("got a link to %s", l.Server())
			}
			nstest.WaitFor(t, "more tries", func() bool { return s.asked.Load() > 3 })
			if n := log.count("level=WARN", "leaving it out", "another key", s.Addr().String()); n != 1 {
				t.Errorf("%d lines: %s", n, &log.buf)
			}
			// Nobody waits for what does not come by itself.
			if _, err := ls.Wait(t.Context(), new(upstream.Tried)); err == nil || !strings.Contains(err.Error(), "another key") {
				t.Errorf("who waits is told: %v", err)
			}
			s.use(t, s.right)
			waitBack(t, ls)
			wantAuth(t, wait(t, ls, new(upstream.Tried)), s, false)
			nstest.WaitFor(t, "line that it is back", func() bool { return log.count("server is back") == 1 })
			if n := log.count("level=WARN"); n != 1 {
				t.Errorf("%d lines: %s", n, &log.buf)
			}
		})
	}
}

// waitBack waits until a server is in use again, for which nobody waits.
func waitBack(t *testing.T, ls *upstream.Servers) {
	t.Helper()
	nstest.WaitFor(t, "the server", func() bool {
		l, ok := open(t, ls)
		if ok {
			socket.Close(l.FD())
			l.Leave()
		}
		return ok
	})
}

// TestOtherServer: in place of one with a wrong key there is another one.
func TestOtherServer(t *testing.T) {
	wrong, right := serveAuth(t), serveAuth(t)
	for _, pool := range []int{0, 2} {
		cfg := right.config(t, false)
		cfg.PoolMax = pool
		cfg.Servers = []string{wrong.Addr().String(), right.Addr().String()}
		ls := newServers(t, cfg)
		l, ok := open(t, ls)
		if !ok || l.Server() != right.Addr().String() {
			t.Fatalf("got %v", ok)
		}
		wantAuth(t, l, right, false)
	}
}

// TestRefusals: what the server says is what is told.
func TestRefusals(t *testing.T) {
	for status, tt := range map[wire.Status]struct{ level, says string }{
		wire.NotAuthorized: {"WARN", "does not know this end's key"},
		wire.Draining:      {"INFO", "server drains"},
	} {
		s := serveAuth(t)
		s.judges(func() (wire.Status, error) { return status, errors.New("sorry") })
		ls, log, _ := runServers(t, s.config(t, false))
		if _, ok := open(t, ls); ok {
			t.Error("there is a link")
		}
		nstest.WaitFor(t, "more tries", func() bool { return s.asked.Load() > 2 })
		if n := log.count("level="+tt.level, tt.says); n != 1 || log.count("leaving it out") != 1 {
			t.Errorf("%d lines: %s", n, &log.buf)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := ls.Wait(ctx, new(upstream.Tried)); err == nil {
			t.Error("who waits gets a link")
		}
		s.judges(func() (wire.Status, error) { return wire.Connected, nil })
		waitBack(t, ls)
		wantAuth(t, wait(t, ls, new(upstream.Tried)), s, false)
	}
}

// TestManyHandshakes: so many are under way at once, and no more, by the pool and by peers
// that wait.
func TestManyHandshakes(t *testing.T) {
	const most = 32
	for name, pool := range map[string]int{"pool": 100, "peers": 0} {
		t.Run(name, func(t *testing.T) {
			s := serveAuth(t)
			goOn := make(chan struct{})
			s.judges(func() (wire.Status, error) {
				<-goOn
				return wire.Connected, nil
			})
			cfg := s.config(t, false)
			cfg.PoolMin, cfg.PoolMax = pool, pool
			ls, log, stop := runServers(t, cfg)
			var peers sync.WaitGroup
			if pool == 0 {
				for range 100 {
					peers.Go(func() {
						if l, err := ls.Wait(context.Background(), new(upstream.Tried)); err == nil {
							socket.Close(l.FD())
						} else {
							t.Error(err)
						}
					})
				}
			}
			nstest.WaitFor(t, "handshakes", func() bool { return s.under.Load() == most })
			close(goOn)
			nstest.WaitFor(t, "all links", func() bool { return s.count() == 100 })
			peers.Wait()
			s.mu.Lock()
			if s.most != most {
				t.Errorf("there were %d at a time", s.most)
			}
			s.mu.Unlock()
			if log.count("WARN") > 0 {
				t.Error(&log.buf)
			}
			stop()
		})
	}
}

// TestPoolAfterPeers: peers that wait are served, and the pool is full, although there are
// more of them than handshakes at a time.
func TestPoolAfterPeers(t *testing.T) {
	const most, pool = 32, 5
	s := serveAuth(t)
	goOn := make(chan struct{})
	s.judges(func() (wire.Status, error) {
		<-goOn
		return wire.Connected, nil
	})
	cfg := s.config(t, false)
	cfg.PoolMin, cfg.PoolMax, cfg.ConnectTimeout = pool, pool, 20*time.Second
	ls := newServers(t, cfg)
	var peers sync.WaitGroup
	for range most {
		peers.Go(func() {
			if l, ok := open(t, ls); ok {
				socket.Close(l.FD())
			}
		})
	}
	nstest.WaitFor(t, "handshakes", func() bool { return s.under.Load() == most })
	close(goOn)
	peers.Wait()
	nstest.WaitFor(t, "pool", func() bool { return s.count() == most+pool })
}

// TestSecuredLinksComeBack: after the end there is no descriptor left, of a link that
// nobody has taken, or that had a handshake under way.
func TestSecuredLinksComeBack(t *testing.T) {
	for name, judge := range map[string]func(stop <-chan struct{}) (wire.Status, error){
		"ready":   func(<-chan struct{}) (wire.Status, error) { return wire.Connected, nil },
		"refused": func(<-chan struct{}) (wire.Status, error) { return wire.Busy, errors.New("sorry") },
		"under way": func(stop <-chan struct{}) (wire.Status, error) {
			<-stop
			return wire.Connected, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := serveAuth(t)
			goOn := make(chan struct{})
			s.judges(func() (wire.Status, error) { return judge(goOn) })
			before := nstest.Descriptors(t, os.Getpid())
			cfg := s.config(t, false)
			cfg.PoolMin, cfg.PoolMax = 5, 5
			ls, _, stop := runServers(t, cfg)
			nstest.WaitFor(t, "links", func() bool { return s.asked.Load() >= 3 || s.under.Load() == 5 })
			ctx, cancel := context.WithCancel(t.Context())
			var waits sync.WaitGroup
			waits.Go(func() {
				if l, ok, _ := ls.Open(ctx, new(upstream.Tried)); ok {
					socket.Close(l.FD())
				}
			})
			cancel()
			waits.Wait()
			stop()
			close(goOn)
			nstest.WaitFor(t, "descriptors as before", func() bool {
				s.hangUp()
				return nstest.Descriptors(t, os.Getpid()) <= before
			})
		})
	}
}

// TestSilentServer: one that says nothing is left out before long, and its links are given
// up.
func TestSilentServer(t *testing.T) {
	silent := serve(t, "127.0.0.1:0")
	s := serveAuth(t)
	cfg := s.config(t, false)
	cfg.Servers, cfg.ConnectTimeout = []string{silent.addr()}, 100*time.Millisecond
	ls, log, _ := runServers(t, cfg)
	if _, ok := open(t, ls); ok {
		t.Error("there is a link")
	}
	if log.count("leaving it out", "no answer") != 1 {
		t.Error(&log.buf)
	}
}

// TestOpenIsCancelled: who waits for a server to prove who it is may give up, which says
// nothing of the server.
func TestOpenIsCancelled(t *testing.T) {
	s := serveAuth(t)
	goOn := make(chan struct{})
	s.judges(func() (wire.Status, error) {
		<-goOn
		return wire.Connected, nil
	})
	ls, log, _ := runServers(t, s.config(t, false))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, _, err := ls.Open(ctx, new(upstream.Tried))
		ended <- err
	}()
	nstest.WaitFor(t, "handshake", func() bool { return s.under.Load() == 1 })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(goOn)
	if log.count("leaving it out") > 0 {
		t.Error(&log.buf)
	}
	if _, ok := open(t, ls); !ok {
		t.Error("the server is left out")
	}
}

// TestOutOfDescriptors: it says nothing of the server either.
func TestOutOfDescriptors(t *testing.T) {
	s := serveAuth(t)
	ls, log, _ := runServers(t, s.config(t, false))
	_, ok := open(t, ls)
	if !ok {
		t.Fatal("there is no link")
	}
	var before syscall.Rlimit
	nstest.Must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before))
	nstest.Must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 3, Max: before.Max}))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := ls.Wait(ctx, new(upstream.Tried))
	nstest.Must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before))
	if !errors.Is(err, syscall.EMFILE) || log.count("leaving it out") > 0 {
		t.Errorf("got %v, %s", err, &log.buf)
	}
	if _, ok := open(t, ls); !ok {
		t.Error("the server is left out")
	}
}

// TestSecuredLinkComesBack: a peer that waits while a handshake hangs gets the link that
// comes back; the end of an encrypted link that is of no more use is that of TLS.
func TestSecuredLinkComesBack(t *testing.T) {
	s := serveAuth(t)
	cfg := s.config(t, false)
	cfg.PoolMax = 5
	ls := newServers(t, cfg)
	l, ok := open(t, ls)
	if !ok {
		t.Fatal("there is no link")
	}
	goOn := make(chan struct{})
	s.judges(func() (wire.Status, error) {
		<-goOn
		return wire.Connected, nil
	})
	defer close(goOn)
	for { // until the pool has no more
		tried := new(upstream.Tried)
		if _, ok := take(t, ls, tried); ok {
			continue
		}
		nstest.WaitFor(t, "handshake", func() bool { return s.under.Load() > 0 })
		l.Return()
		if again := wait(t, ls, tried); again.FD() != l.FD() || again.Carried() != 1 {
			t.Errorf("the peer has link %d that has carried %d, want %d", again.FD(), again.Carried(), l.FD())
		}
		break
	}
	l.Fail(errors.New("test"))
	s.mu.Lock()
	end := s.sessions[0]
	s.mu.Unlock()
	l.Return()
	b := make([]byte, 1)
	nstest.WaitFor(t, "end of TLS", func() bool {
		_, err := end.Conn.Read(b)
		return errors.Is(err, io.EOF)
	})
}
