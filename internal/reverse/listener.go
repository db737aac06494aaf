package reverse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/backoff"
	"portredirector/internal/limit"
	"portredirector/internal/logging"
	"portredirector/internal/socket"
	"portredirector/internal/upstream"
	"portredirector/internal/wire"
)

// Listener accepts the servers that dial a client, and their links. Its fields must be
// set before Serve.
type Listener struct {
	Servers *upstream.Servers
	Auth    *auth.Acceptor
	// Known returns the name of the server with a key.
	Known func(auth.PublicKey) (name string, ok bool)
	// Admit, if set, enrolls a server whose key is not known yet.
	Admit func(s *auth.Stream, server auth.PublicKey) error

	Timeout    time.Duration // of the handshake
	Heartbeat  time.Duration // of control streams
	Handshakes limit.Oldest[netip.Prefix]
	Log        *slog.Logger
	Throttle   logging.Throttle[netip.Prefix] // for what strangers can cause

	attached map[auth.PublicKey]*upstream.ReverseServer // guarded by mu
	mu       sync.Mutex
	tasks    sync.WaitGroup
}

// Errors of servers that dial a client.
var (
	// ErrUnknownServer refuses a server whose key the client does not know.
	ErrUnknownServer = errors.New("the server's key is not known here")
	// ErrNoInvitations refuses a server that wants to enroll.
	ErrNoInvitations = errors.New("the server wants to join, and this client takes no invitations")

	errNoPurpose = errors.New("it does not say what it wants: it is not a portredirector server")
	errNoControl = errors.New("a link of a server that has no control stream")
	errEnding    = errors.New("this client shuts down")
)

// Serve accepts servers and their links until ctx is canceled, and owns the listener.
// Links that have a peer live on.
func (l *Listener) Serve(ctx context.Context, from *net.TCPListener) error {
	defer l.tasks.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = from.Close() })()
	l.attached = make(map[auth.PublicKey]*upstream.ReverseServer)
	retry := backoff.Backoff{Min: 10 * time.Millisecond, Max: time.Second}
	for {
		conn, err := from.AcceptTCP()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			// Out of descriptors, above all: that passes.
			l.Log.Warn("cannot accept links, trying again", slog.Any("error", err))
			backoff.Sleep(ctx, retry.Next())
			continue
		}
		retry.Reset()
		at := conn.RemoteAddr().(*net.TCPAddr).AddrPort() //nolint:errcheck,forcetypeassert // a TCP connection's
		at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
		fd, err := socket.Detach(conn)
		if err != nil {
			continue
		}
		slot, _ := l.Handshakes.Add(limit.SourcePrefix(at.Addr()))
		l.tasks.Go(func() { l.accept(ctx, fd, at, slot) })
	}
}

// accept authenticates the other end of a socket and does what it wants.
func (l *Listener) accept(ctx context.Context, fd int, at netip.AddrPort, slot auth.Slot) {
	session, err := l.Auth.AcceptInSlot(ctx, fd, nil, slot, l.Timeout, l.judge, l.admit)
	if err == nil {
		err = l.use(ctx, session, at)
	}
	if err == nil || ctx.Err() != nil {
		return
	}
	l.Throttle.Log(slog.LevelWarn, "link refused", limit.SourcePrefix(at.Addr()), func() []slog.Attr {
		return []slog.Attr{slog.String("link", at.String()), slog.Any("error", err)}
	})
}

// judge decides whether a link may be opened.
func (l *Listener) judge(id auth.Identity) (wire.Status, error) {
	_, known := l.Known(id.Key)
	switch {
	case id.For == auth.ToServer: // it names no purpose
		return wire.NotAuthorized, errNoPurpose
	case id.For == auth.Join && l.Admit == nil:
		return wire.NotAuthorized, ErrNoInvitations
	case id.For == auth.Join || known:
		return wire.Connected, nil
	default:
		return wire.NotAuthorized, fmt.Errorf("%w: %s", ErrUnknownServer, id.Key)
	}
}

// admit enrolls a server that wants to. Any stranger may try, so this is within the
// bounds of the handshake.
func (l *Listener) admit(ctx context.Context, s *auth.Session) error {
	if s.Identity.For != auth.Join {
		return nil
	}
	defer func() { _ = s.Stream.Close() }()
	defer context.AfterFunc(ctx, func() { _ = s.Stream.Close() })()
	err := l.Admit(s.Stream, s.Identity.Key)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// use serves the purpose of a session.
func (l *Listener) use(ctx context.Context, s *auth.Session, at netip.AddrPort) error {
	switch s.Identity.For {
	case auth.Join:
	case auth.Control:
		l.control(ctx, s, at)
	default:
		l.mu.Lock()
		server := l.attached[s.Identity.Key]
		l.mu.Unlock()
		if server == nil {
			socket.Close(s.FD)
			return errNoControl
		}
		server.Put(s)
	}
	return nil
}
