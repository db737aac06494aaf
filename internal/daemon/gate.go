package daemon

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"

	"portredirector/internal/config"
	"portredirector/internal/key"
	"portredirector/internal/limit"
	"portredirector/internal/link"
	"portredirector/internal/quiet"
	"portredirector/internal/secure"
)

// gate is where servers dial a client; nil if it dials them.
type gate struct {
	listener *net.TCPListener
	links    link.Listener
}

// openGate opens the one that the configuration asks for.
func openGate(ctx context.Context, cfg config.Client, log *slog.Logger) (*gate, error) {
	if cfg.ListenLinks == "" {
		return nil, nil
	}
	own, err := ownKey(cfg.Trust)
	if err != nil {
		return nil, err
	}
	sure, err := secure.AcceptServers(own, cfg.Trust.AuthOnly)
	if err != nil {
		return nil, err
	}
	listeners, err := listen(ctx, cfg.KeepAlive, cfg.ListenLinks)
	if err != nil {
		return nil, err
	}
	return &gate{listener: listeners[0], links: link.Listener{
		Secure: sure,
		Known: func(k key.Public) (string, bool) {
			return k.String(), slices.Contains(cfg.Trust.PeerKeys, k)
		},
		Timeout:    cfg.ConnectTimeout,
		Handshakes: limit.Oldest[netip.Prefix]{Most: scarce(cfg.Handshakes.Most, 4), MostEach: scarce(cfg.Handshakes.Each, 8)},
		Tell:       quiet.Log[netip.Prefix]{To: log},
	}}, nil
}

// serve lets servers come in, until ctx ends.
func (g *gate) serve(ctx context.Context, links *link.Links) error {
	if g == nil {
		return nil
	}
	defer g.links.Tell.Flush()
	g.links.Links = links
	return g.links.Serve(ctx, g.listener)
}

// close is for one that was never served.
func (g *gate) close() {
	if g != nil {
		_ = g.listener.Close()
	}
}
