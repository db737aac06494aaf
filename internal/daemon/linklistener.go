package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"

	"portredirector/internal/auth"
	"portredirector/internal/enroll"
	"portredirector/internal/logging"
	"portredirector/internal/reload"
	"portredirector/internal/reverse"
	"portredirector/internal/upstream"
	"portredirector/internal/wire"
)

// linkListener is the port on which servers dial a client.
type linkListener struct {
	listener *net.TCPListener
	links    reverse.Listener
	enrolled *clients // servers that have joined by an invitation; nil without pairing
}

// openLinkListener opens the port for servers, if there is one.
func (d *clientDaemon) openLinkListener(ctx context.Context) error {
	cfg := d.cfg
	if cfg.ListenLinks == "" {
		return nil
	}
	own, err := ownKey(cfg.Trust)
	if err != nil {
		return err
	}
	acceptor, err := auth.AcceptServers(own, cfg.Trust.AuthOnly)
	if err != nil {
		return err
	}
	listeners, err := d.listen(ctx, d.env, cfg.KeepAlive, cfg.ListenLinks)
	if err != nil {
		return err
	}
	d.incoming = &linkListener{listener: listeners[0], links: reverse.Listener{
		Auth: acceptor,
		Known: func(k auth.PublicKey) (string, bool) {
			return k.String(), slices.Contains(cfg.Trust.RemoteKeys, k)
		},
		Timeout:    cfg.ConnectTimeout,
		Handshakes: oldest[netip.Prefix](cfg.Handshakes),
		Heartbeat:  cfg.Heartbeat,
		Log:        d.log,
		Throttle:   logging.Throttle[netip.Prefix]{To: d.log},
	}}
	if d.state == nil {
		return nil
	}
	return d.incoming.enroll(d.state, d.log)
}

// enroll makes the listener accept servers that have joined by an invitation, and servers that
// join now.
func (l *linkListener) enroll(state *enroll.State, log *slog.Logger) (err error) {
	if l.enrolled, err = reload.New(log, state.Servers, state.ServersFile()); err != nil {
		return err
	}
	l.links.Known = func(k auth.PublicKey) (string, bool) {
		server := l.enrolled.Get()[k]
		if server == nil { // it may have joined just now
			fresh, err := state.Servers()
			if server = fresh[k]; err != nil || server == nil {
				return "", false
			}
		}
		return server.Name, true
	}
	l.links.Admit = func(s *auth.Stream, server auth.PublicKey) error {
		request, err := wire.ReadJoin(s)
		if errors.Is(err, io.EOF) {
			return nil // it only asked whose port this is
		}
		if err != nil {
			return fmt.Errorf("join: %w", err)
		}
		name, err := state.Accept(request.Secret, server, request.Name)
		if werr := enroll.WriteAnswer(s, err); err != nil || werr != nil {
			return fmt.Errorf("join: %w", errors.Join(err, werr))
		}
		log.Info("server has joined, its key is known from now on", slog.String("server", name), slog.String("key", server.String()))
		return nil
	}
	return nil
}

// tasks lists what the listener does.
func (l *linkListener) tasks(servers *upstream.Servers) []task {
	l.links.Servers = servers
	var tasks []task
	if l.enrolled != nil {
		tasks = append(tasks, inBackground("file of joined servers", l.enrolled.Run))
	}
	return append(tasks, background{"servers that dial " + l.listener.Addr().String(), func(ctx context.Context) error {
		defer l.links.Throttle.Flush()
		return l.links.Serve(ctx, l.listener)
	}})
}
