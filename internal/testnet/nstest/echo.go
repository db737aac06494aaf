package nstest

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"portredirector/internal/testnet"
)

// EchoService is a TCP service that sends back what it gets. A half-close is answered with a half-close, after the last byte.
type EchoService struct {
	listener *net.TCPListener

	mu    sync.Mutex
	conns map[*net.TCPConn]bool // guarded by mu; nil once the service is closed
	peers []netip.AddrPort      // guarded by mu
}

// Echo starts an echo service in the host and ends it with the test. With port 0 the kernel chooses one.
func Echo(tb testing.TB, h *testnet.Host, addr netip.AddrPort) *EchoService {
	tb.Helper()
	ln, err := h.Listen(addr)
	if err != nil {
		tb.Fatal(err)
	}
	s := &EchoService{listener: ln, conns: make(map[*net.TCPConn]bool)}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.serve(); !errors.Is(err, net.ErrClosed) {
			tb.Errorf("echo service at %v: %v", s.Addr(), err)
		}
	})
	tb.Cleanup(func() {
		s.close()
		serving.Wait()
	})
	return s
}

// Addr returns the address at which the service listens.
func (s *EchoService) Addr() netip.AddrPort {
	return s.listener.Addr().(*net.TCPAddr).AddrPort()
}

// Peers returns the remote addresses of all connections so far, in order. A connection whose first byte was echoed is among them.
func (s *EchoService) Peers() []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.peers)
}

// serve accepts until the listener is closed, and waits for the connections. The error is never nil.
func (s *EchoService) serve() error {
	var handlers sync.WaitGroup
	defer handlers.Wait()
	for {
		conn, err := s.listener.AcceptTCP()
		if err != nil {
			return err
		}
		if s.track(conn) {
			handlers.Go(func() { s.handle(conn) })
		}
	}
}

func (s *EchoService) handle(conn *net.TCPConn) {
	defer s.untrack(conn)
	if _, err := io.Copy(conn, conn); err == nil {
		_ = conn.CloseWrite()
	}
}

// track takes note of a connection. Once the service is closed it closes the connection instead.
func (s *EchoService) track(conn *net.TCPConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		conn.Close()
		return false
	}
	s.conns[conn] = true
	remote := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	s.peers = append(s.peers, netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port()))
	return true
}

func (s *EchoService) untrack(conn *net.TCPConn) {
	conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

// close ends the listener and all connections.
func (s *EchoService) close() {
	s.listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		conn.Close()
	}
	s.conns = nil
}
