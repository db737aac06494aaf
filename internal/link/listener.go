package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/limit"
	"portredirector/internal/logging"
	"portredirector/internal/socket"
	"portredirector/internal/wire"
)

// Listener is where servers dial a client. Its fields must be set before Serve.
type Listener struct {
	Links  *Links
	Secure *auth.Acceptor
	// Known is the name of a server by its key.
	Known func(auth.PublicKey) (name string, ok bool)
	// Admit, if set, hears a server whose key is not known yet, and has it known or not.
	Admit func(s *auth.Stream, server auth.PublicKey) error

	Timeout    time.Duration // for a server to prove who it is
	Handshakes limit.Oldest[netip.Prefix]
	Tell       logging.Throttle[netip.Prefix]

	servers map[auth.PublicKey]*Joined // guarded by mu
	mu      sync.Mutex
	tasks   sync.WaitGroup
}

// Errors of those who dial.
var (
	errHandshakes = errors.New("too many handshakes at once")
	errNoProof    = errors.New("no proof of who it is in time")
	errUnknown    = errors.New("the server's key is not known here (--server-key)")
	errNoJoin     = errors.New("it wants to join (--join), and this client has keys (--key) and takes no invitations")
	errNoPurpose  = errors.New("it does not say what it wants: it is none of ours")
	errNoControl  = errors.New("a link of a server that is not there")
	errEnding     = errors.New("this client ends")
)

// Serve accepts servers and their links, until ctx ends, and owns the listener. The links
// that peers have are theirs.
func (l *Listener) Serve(ctx context.Context, from *net.TCPListener) error {
	defer l.tasks.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = from.Close() })()
	l.servers = make(map[auth.PublicKey]*Joined)
	const least, most = 5 * time.Millisecond, time.Second
	pause := least
	for {
		conn, err := from.AcceptTCP()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			// Out of descriptors, above all: that passes.
			l.Links.cfg.Log.Warn("cannot accept links, trying again", slog.Any("error", err))
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, most)
			continue
		}
		pause = least
		at := conn.RemoteAddr().(*net.TCPAddr).AddrPort() //nolint:errcheck,forcetypeassert // a TCP connection's
		at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
		fd, err := socket.Detach(conn)
		if err != nil {
			continue
		}
		under, _ := l.Handshakes.Add(limit.SourcePrefix(at.Addr()))
		l.tasks.Go(func() { l.accept(ctx, fd, at, under) })
	}
}

// accept makes sure of whoever dials, and does what it wants.
func (l *Listener) accept(ctx context.Context, fd int, at netip.AddrPort, under *limit.Entry[netip.Prefix]) {
	session, err := l.handshake(ctx, fd, under)
	if err == nil && session.Identity.For != auth.Join {
		err = l.take(ctx, session, at)
	}
	if err == nil || ctx.Err() != nil {
		return
	}
	l.Tell.Log(slog.LevelWarn, "link refused", limit.SourcePrefix(at.Addr()), func() []slog.Attr {
		return []slog.Attr{slog.String("link", at.String()), slog.Any("error", err)}
	})
}

// handshake makes sure of whoever dials, and hears it out if it wants to join: any stranger
// may, so that is bounded as a handshake is.
func (l *Listener) handshake(ctx context.Context, fd int, under *limit.Entry[netip.Prefix]) (*auth.Session, error) {
	defer under.Over()
	ctx, cancel := context.WithTimeoutCause(ctx, l.Timeout, errNoProof)
	defer cancel()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	under.Began(func() { end(errHandshakes) })
	if err := context.Cause(ctx); err != nil {
		socket.Close(fd)
		return nil, err
	}
	s, err := l.Secure.Accept(ctx, fd, nil, func(p auth.Identity) (wire.Status, error) {
		_, known := l.Known(p.Key)
		switch {
		case p.For == auth.ToServer: // it has not said what else it wants
			return wire.NotAuthorized, errNoPurpose
		case p.For == auth.Join && l.Admit == nil:
			return wire.NotAuthorized, errNoJoin
		case p.For == auth.Join || known:
			return wire.Connected, nil
		default:
			return wire.NotAuthorized, fmt.Errorf("%w: %s", errUnknown, p.Key)
		}
	})
	if err == nil && s.Identity.For == auth.Join {
		err = l.admit(ctx, s)
	}
	return s, err
}

// take does what the other end of a session wants.
func (l *Listener) take(ctx context.Context, s *auth.Session, at netip.AddrPort) error {
	switch s.Identity.For {
	case auth.Control:
		l.control(ctx, s, at)
	default:
		l.mu.Lock()
		server := l.servers[s.Identity.Key]
		l.mu.Unlock()
		if server == nil {
			socket.Close(s.FD)
			return errNoControl
		}
		server.Put(s)
	}
	return nil
}

func (l *Listener) admit(ctx context.Context, s *auth.Session) error {
	defer func() { _ = s.Stream.Close() }()
	defer context.AfterFunc(ctx, func() { _ = s.Stream.Close() })()
	err := l.Admit(s.Stream, s.Identity.Key)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// control has a server be one of those that peers go to, as long as its control stream
// lives.
func (l *Listener) control(ctx context.Context, session *auth.Session, at netip.AddrPort) {
	stream := session.Stream
	defer func() { _ = stream.Close() }()
	defer context.AfterFunc(ctx, func() { _ = stream.Close() })()
	if err := stream.EndAfter(l.Links.cfg.Heartbeat); err != nil {
		return
	}
	orders := newOrders()
	var writing sync.WaitGroup
	defer writing.Wait()
	defer orders.end()
	gone := make(chan error, 1)
	writing.Go(func() {
		if err := orders.write(stream, func() error { return l.still(session.Identity.Key) }); err != nil {
			gone <- err
			_ = stream.Close()
		}
	})

	name, _ := l.Known(session.Identity.Key)
	l.mu.Lock() // its first links may be here before Join has returned
	server := l.Links.Join(name, at, orders.add)
	l.servers[session.Identity.Key] = server
	l.mu.Unlock()
	// A server says nothing; it goes by ending the stream.
	_, err := stream.Read(make([]byte, 1))
	select {
	case err = <-gone:
	default:
		if err == nil {
			err = errors.New("it says what it should not")
		}
	}
	if ctx.Err() != nil {
		err = errEnding
	}
	l.mu.Lock()
	if l.servers[session.Identity.Key] == server {
		delete(l.servers, session.Identity.Key)
	}
	l.mu.Unlock()
	server.Leave(err)
}

// still is an error if a server's control stream is of no use any more. One in whose place
// another came, which has gone, is to dial again, and be the one that peers go to.
func (l *Listener) still(server auth.PublicKey) error {
	if _, known := l.Known(server); !known {
		return errUnknown
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.servers[server] == nil {
		return errNoControl
	}
	return nil
}

// orders is how many links a server has yet to be asked for.
type orders struct {
	mu    sync.Mutex
	n     uint32        // guarded by mu
	more  chan struct{} // has room for one
	ended chan struct{}
}

func newOrders() *orders { return &orders{more: make(chan struct{}, 1), ended: make(chan struct{})} }

func (o *orders) end() { close(o.ended) }

// add orders so many.
func (o *orders) add(n int) {
	o.mu.Lock()
	o.n += uint32(n) //nolint:gosec // is no more than there are descriptors
	o.mu.Unlock()
	select {
	case o.more <- struct{}{}:
	default:
	}
}

// stillEvery is how often it is looked at whether a server still is one.
const stillEvery = 5 * time.Second

// write asks for what is ordered, until the end or as long as the server is one still: four
// bytes say how many more.
func (o *orders) write(s *auth.Stream, still func() error) error {
	look := time.NewTicker(stillEvery)
	defer look.Stop()
	for {
		select {
		case <-o.more:
		case <-look.C:
			if err := still(); err != nil {
				return err
			}
			continue
		case <-o.ended:
			return nil
		}
		o.mu.Lock()
		n := o.n
		o.n = 0
		o.mu.Unlock()
		if _, err := s.Write(binary.BigEndian.AppendUint32(nil, n)); err != nil {
			return err
		}
	}
}
