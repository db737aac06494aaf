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

// Server answers for a daemon.
type Server struct {
	listener *net.UnixListener
	state    func() error
	done     chan struct{}
	serving  sync.WaitGroup
}

// healthy is the answer of a daemon that is.
const healthy = "ok"

// Serve answers from now on whether the process is well: state returns nil, or
// why it is not. It is called for one asker after the other. Whoever calls Serve
// closes the server.
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

// Close ends it, and waits until it has.
func (s *Server) Close() {
	close(s.done)
	_ = s.listener.Close()
	s.serving.Wait()
}

// serve answers until the listener is closed. An error, as of too few
// descriptors, it waits out.
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

// answer answers an asker that may know. It does not wait for what the asker
// does: a line goes into any socket's buffer.
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
	_, _ = io.WriteString(c, line+"\n") // who is gone does not want to know
}
