// Package tcpserver accepts TCP connections and hands each to a handler, with
// Serve and Shutdown as in net/http.
//
// Two things differ from a plain accept loop. An accept error never ends a
// listener: out of descriptors or memory it pauses, says so once, and goes on
// by itself. And a handler may end while its connection lives on (it gives
// the connection to a relay): what Shutdown waits for is handlers.
package tcpserver

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("tcp server is closed")

// Pauses of a listener that cannot accept, doubled each time.
const (
	minPause = 5 * time.Millisecond
	maxPause = time.Second
)

// Server accepts connections on any number of listeners. Its fields must be
// set before the first Serve.
type Server struct {
	// Handler is called on a goroutine of its own for each connection, which
	// it owns from then on. ctx ends when the connection is to be cut.
	Handler func(ctx context.Context, conn *net.TCPConn)
	Log     *slog.Logger

	mu        sync.Mutex
	closed    chan struct{}             // closed by Shutdown; guarded by mu
	listeners map[*net.TCPListener]bool // being served; guarded by mu
	busy      sync.WaitGroup            // accept loops and handlers
	ctx       context.Context           //nolint:containedctx // the life of all handlers, as net/http's BaseContext
	cut       context.CancelFunc
	handling  atomic.Int64 // handlers under way
}

// Serve accepts connections on l until Shutdown. It always returns a non-nil
// error and closes l.
func (s *Server) Serve(l *net.TCPListener) error {
	closed, err := s.track(l)
	if err != nil {
		_ = l.Close()
		return err
	}
	defer s.busy.Done()

	pause := pauser{log: s.Log.With(slog.String("listener", l.Addr().String()))}
	for {
		conn, err := l.AcceptTCP()
		switch {
		case err == nil:
			pause.worked()
			s.busy.Add(1)
			go s.handle(conn)
		case errors.Is(err, net.ErrClosed):
			return ErrServerClosed
		case errors.Is(err, syscall.ECONNABORTED):
			// The peer left before we came: accept(2).
		default:
			select {
			case <-time.After(pause.next(err)):
			case <-closed:
			}
		}
	}
}

// Shutdown closes the listeners and waits for the handlers. When ctx ends
// first, their context ends too, and it waits for them to notice.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.init()
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	for l := range s.listeners {
		_ = l.Close()
	}
	s.mu.Unlock()

	idle := make(chan struct{})
	go func() {
		s.busy.Wait()
		close(idle)
	}()
	defer s.cut()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		handling := s.handling.Load()
		s.cut()
		<-idle
		if handling == 0 {
			return nil
		}
		return context.Cause(ctx)
	}
}

// Draining reports whether Shutdown was called.
func (s *Server) Draining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.init()
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// init makes the zero value usable; s.mu must be held.
func (s *Server) init() {
	if s.closed == nil {
		s.closed = make(chan struct{})
		s.listeners = make(map[*net.TCPListener]bool)
		s.ctx, s.cut = context.WithCancel(context.Background())
	}
}

// track adds a listener and its accept loop to what Shutdown ends.
func (s *Server) track(l *net.TCPListener) (closed <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.init()
	select {
	case <-s.closed:
		return nil, ErrServerClosed
	default:
	}
	s.listeners[l] = true
	s.busy.Add(1)
	return s.closed, nil
}

// handle runs the handler. A bug in it ends the one connection: what the
// handler had opened besides is lost until the process ends, but no other
// peer is.
func (s *Server) handle(conn *net.TCPConn) {
	defer s.busy.Done()
	s.handling.Add(1)
	defer s.handling.Add(-1)
	defer func() {
		if v := recover(); v != nil {
			s.Log.Error("connection handler panicked", slog.Any("panic", v),
				slog.String("stack", string(debug.Stack())))
			_ = conn.SetLinger(0)
			_ = conn.Close()
		}
	}()
	s.Handler(s.ctx, conn)
}

// pauser counts the pauses of one listener. At the limit of descriptors,
// accepting works and fails by turns; that is one run of pauses, and it says
// so once.
type pauser struct {
	log   *slog.Logger
	pause time.Duration
	since time.Time // the run began
	last  time.Time // the last failure
}

// calm is how long nothing must fail for a run of pauses to be over.
const calm = time.Second

// next is how long to pause after an error.
func (p *pauser) next(err error) time.Duration {
	p.last = time.Now()
	if p.since.IsZero() {
		p.since = p.last
		p.log.Warn("cannot accept, pausing until it works again", slog.Any("error", err))
	}
	p.pause = min(max(2*p.pause, minPause), maxPause)
	return p.pause
}

// worked notes a connection that was accepted.
func (p *pauser) worked() {
	if p.since.IsZero() {
		return
	}
	p.pause /= 2
	if now := time.Now(); now.Sub(p.last) >= calm {
		p.log.Info("accepting again", slog.Duration("after", now.Sub(p.since)))
		p.pause, p.since = 0, time.Time{}
	}
}
