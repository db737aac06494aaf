package health

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"portredirector/internal/local"
)

// Server answers callers for a daemon.
type Server struct {
	listener *net.UnixListener
	state    func() (note string, err error)
	done     chan struct{}
	serving  sync.WaitGroup
}

// Serve starts a server that answers by state, which returns a note, or the reason that the
// process is unhealthy. It calls state for one caller at a time. The caller of Serve closes
// the server.
func Serve(state func() (note string, err error)) (*Server, error) {
	l, err := local.Health.Listen()
	if err != nil {
		return nil, err
	}
	return ServeOn(l, state), nil
}

// ServeOn is like Serve, with a socket that is there already. The server owns it.
func ServeOn(l *net.UnixListener, state func() (note string, err error)) *Server {
	s := &Server{listener: l, state: state, done: make(chan struct{})}
	s.serving.Go(s.serve)
	return s
}

// Close ends the server, and waits for it.
func (s *Server) Close() {
	close(s.done)
	_ = s.listener.Close()
	s.serving.Wait()
}

// serve answers until the listener is closed. It waits for other errors, as of
// too few descriptors, to pass.
func (s *Server) serve() {
	for {
		c, err := s.listener.AcceptUnix()
		switch {
		case err == nil:
			s.answer(c)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			select {
			case <-s.done:
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

// answer answers a caller that may know. It does not wait for the caller: one
// line fits into any socket's buffer.
func (s *Server) answer(c *net.UnixConn) {
	defer func() { _ = c.Close() }()
	if !local.Permitted(c) {
		return
	}
	note, err := s.state()
	line := strings.TrimSpace(well + " " + note)
	if err != nil {
		line = err.Error()
	}
	line = strings.ReplaceAll(line, "\n", "; ")
	_ = c.SetDeadline(time.Now().Add(answerTimeout))
	_, _ = io.WriteString(c, line+"\n") // the caller may be gone
}
