package health

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Server answers callers for a daemon.
type Server struct {
	listener *net.UnixListener
	state    func() error
	done     chan struct{}
	serving  sync.WaitGroup
}

// healthy is the answer of a healthy daemon.
const healthy = "ok"

// Serve starts a server that answers by state, which returns nil or the reason
// that the process is unhealthy. It calls state for one caller at a time. The
// caller of Serve closes the server.
func Serve(state func() error) (*Server, error) {
	ns, err := namespace()
	if err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: name(ns, os.Getpid())})
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("another process has taken the name %s: `ss -xlp` shows which", name(ns, os.Getpid()))
	}
	if err != nil {
		return nil, err
	}
	s := &Server{listener: l, state: state, done: make(chan struct{})}
	s.serving.Go(s.serve)
	return s, nil
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
	cred, err := credentials(c)
	if err != nil || cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return
	}
	line := healthy
	if err := s.state(); err != nil {
		line = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	_ = c.SetDeadline(time.Now().Add(answerTimeout))
	_, _ = io.WriteString(c, line+"\n") // the caller may be gone
}
