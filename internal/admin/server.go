package admin

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"portredirector/internal/local"
)

// Server answers callers of a process.
type Server struct {
	http    http.Server
	serving sync.WaitGroup
	cancel  context.CancelFunc

	handling sync.RWMutex // held for reading by handlers
}

// Bounds on a caller.
const (
	headerTimeout = 5 * time.Second
	writeTimeout  = 2 * time.Minute // a profile takes its time
	closeTimeout  = time.Second
	mostHeader    = 8 << 10
	mostCallers   = 64 // over TCP; others wait
)

// Serve starts a server on the Unix socket of this process. The caller closes it.
func Serve(p Process) (*Server, error) {
	l, err := local.Admin.Listen()
	if err != nil {
		return nil, err
	}
	return ServeOn(l, p), nil
}

// ServeOn is like Serve, with a socket that is there already. The server owns it.
func ServeOn(l *net.UnixListener, p Process) *Server {
	return serve(permitted{l}, guard(nil, p.localHandler()))
}

// ServeTCP is like ServeOn, with a TCP socket. Whoever reaches it may ask, so it has no
// profiles. Callers know this machine by its addresses or names.
func ServeTCP(l *net.TCPListener, names []string, p Process) *Server {
	return serve(netutil.LimitListener(l, mostCallers), guard(names, p.handler()))
}

// serve starts a server.
func serve(l net.Listener, h http.Handler) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{cancel: cancel}
	s.http = http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.handling.RLock()
			defer s.handling.RUnlock()
			h.ServeHTTP(w, r)
		}),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      writeTimeout,
		MaxHeaderBytes:    mostHeader,
		ErrorLog:          discard,
	}
	s.http.SetKeepAlivesEnabled(false) // nobody asks often, and an idle connection takes memory
	s.serving.Go(func() { _ = s.http.Serve(l) })
	return s
}

// Close ends the server, and waits for it. Callers who are being answered have a moment.
func (s *Server) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	s.cancel() // ends the readers of events
	_ = s.http.Shutdown(ctx)
	_ = s.http.Close()
	s.serving.Wait()
	s.handling.Lock()
	defer s.handling.Unlock()
}

// permitted is a listener that closes the connections of callers who may not ask.
type permitted struct{ *net.UnixListener }

// Accept returns the connection of the next caller who may ask.
func (p permitted) Accept() (net.Conn, error) {
	for {
		c, err := p.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if local.Permitted(c) {
			return c, nil
		}
		_ = c.Close()
	}
}
