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
	"sync"

	"portredirector/internal/auth"
	"portredirector/internal/config"
	"portredirector/internal/enroll"
	"portredirector/internal/limit"
	"portredirector/internal/logging"
	"portredirector/internal/reload"
	"portredirector/internal/reverse"
	"portredirector/internal/upstream"
)

// gate is where servers dial a client; nil if it dials them.
type gate struct {
	listener *net.TCPListener
	links    reverse.Listener
	peers    *clients // servers that have joined by an invitation; nil if it takes none
}

// openGate opens the one that the configuration asks for.
func openGate(ctx context.Context, cfg config.Client, state *enroll.State, log *slog.Logger) (*gate, error) {
	if cfg.ListenLinks == "" {
		return nil, nil
	}
	own, err := ownKey(cfg.Trust)
	if err != nil {
		return nil, err
	}
	sure, err := auth.AcceptServers(own, cfg.Trust.AuthOnly)
	if err != nil {
		return nil, err
	}
	listeners, err := listen(ctx, cfg.KeepAlive, cfg.ListenLinks)
	if err != nil {
		return nil, err
	}
	g := &gate{listener: listeners[0], links: reverse.Listener{
		Auth: sure,
		Known: func(k auth.PublicKey) (string, bool) {
			return k.String(), slices.Contains(cfg.Trust.RemoteKeys, k)
		},
		Timeout:    cfg.ConnectTimeout,
		Handshakes: limit.Oldest[netip.Prefix]{Most: scarce(cfg.Handshakes.Most, 4), MostEach: scarce(cfg.Handshakes.Each, 8)},
		Heartbeat:  cfg.Heartbeat,
		Log:        log,
		Throttle:   logging.Throttle[netip.Prefix]{To: log},
		Explain:    explainLink,
	}}
	if state != nil {
		err = g.invites(state, log)
	}
	if err != nil {
		g.close()
	}
	return g, err
}

// invites has servers come in that have joined by an invitation, or do so now.
func (g *gate) invites(state *enroll.State, log *slog.Logger) (err error) {
	if g.peers, err = reload.New(log, state.Servers, state.ServersFile()); err != nil {
		return err
	}
	g.links.Known = func(k auth.PublicKey) (string, bool) {
		p := g.peers.Get()[k]
		if p == nil { // it may have joined just now
			fresh, err := state.Servers()
			if p = fresh[k]; err != nil || p == nil {
				return "", false
			}
		}
		return p.Name, true
	}
	g.links.Admit = func(s *auth.Stream, server auth.PublicKey) error {
		secret, name, err := enroll.ReadRequest(s)
		if errors.Is(err, io.EOF) {
			return nil // it only wanted to know whose port this is
		}
		if err != nil {
			return fmt.Errorf("join: %w", err)
		}
		called, err := state.Accept(secret, server, name)
		if werr := enroll.WriteAnswer(s, err); err != nil || werr != nil {
			return fmt.Errorf("join: %w", errors.Join(err, werr))
		}
		log.Info("a server has joined: its key is known from now on", slog.String("server", called), slog.String("key", server.String()))
		return nil
	}
	return nil
}

// serve lets servers come in, until ctx ends.
func (g *gate) serve(ctx context.Context, servers *upstream.Servers) error {
	if g == nil {
		return nil
	}
	defer g.links.Throttle.Flush()
	g.links.Servers = servers
	if g.peers != nil {
		ctx, cancel := context.WithCancel(ctx)
		var following sync.WaitGroup
		following.Go(func() { g.peers.Run(ctx) })
		defer following.Wait()
		defer cancel()
	}
	return g.links.Serve(ctx, g.listener)
}

// close is for one that was never served.
func (g *gate) close() {
	if g != nil {
		_ = g.listener.Close()
	}
}

// explainLink adds to an error of a server that dials the options that mend it.
func explainLink(err error) error {
	switch {
	case errors.Is(err, reverse.ErrUnknownServer):
		return fmt.Errorf("%w (--server-key)", err)
	case errors.Is(err, reverse.ErrNoInvitations):
		return fmt.Errorf("%w: it has keys (--key), and the server was started with --join", err)
	}
	return err
}
