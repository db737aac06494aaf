package daemon

import (
	"context"
	"log/slog"
	"net/netip"
	"os"

	"portredirector/internal/auth"
	"portredirector/internal/config"
	"portredirector/internal/doctor"
	"portredirector/internal/ports"
	"portredirector/internal/wire"
)

// The hints of a daemon, with those about its own errors.
var (
	clientHints = append(doctor.Hints{{Is: errDrainOver, Option: "--drain-timeout"}}, doctor.ClientHints...)
	serverHints = append(doctor.Hints{{Is: errDrainOver, Option: "--drain-timeout"}}, doctor.ServerHints...)
)

// ClientCredentials reads the credentials of a client, and returns the Dialer for the links that it
// opens. It returns nil for plain links.
func ClientCredentials(cfg config.Client) (*auth.Dialer, error) {
	discard := slog.New(slog.DiscardHandler)
	if _, err := openState(cfg.Trust, "key", cfg.Invite != nil); err != nil {
		return nil, err
	}
	d, err := newDialer(cfg.Trust, os.ReadFile, discard)
	return d, doctor.ClientHints.Add(err)
}

// ServerCredentials reads the credentials of a server, and returns the Dialer for the links that it
// opens. It returns nil if the server opens none.
func ServerCredentials(cfg config.Server) (*auth.Dialer, error) {
	discard := slog.New(slog.DiscardHandler)
	_, clients, err := newAcceptor(cfg.Trust, os.ReadFile, discard)
	if err != nil || len(cfg.Clients) == 0 {
		return nil, doctor.ServerHints.Add(err)
	}
	own, err := ownKey(cfg.Trust)
	if err != nil {
		return nil, err
	}
	known := func(k auth.PublicKey) bool { return clients.Get()[k] != nil }
	return auth.DialClients(own, known, cfg.Trust.AuthOnly)
}

// logQuick logs the faults found by quick checks. A worker skips this, because its supervisor does it.
func (e Env) logQuick(ctx context.Context, log *slog.Logger, p *doctor.Patient) {
	if e.Worker == nil {
		doctor.LogQuick(ctx, log, p)
	}
}

// try answers a trial.
func (d *serverDaemon) try(ctx context.Context, claim netip.Addr, service ports.Endpoint) (wire.Finding, error) {
	f, err := d.routes.Try(ctx, claim, service)
	if err != nil {
		return wire.Finding{}, err
	}
	found := doctor.Report(f)
	found.Version = d.env.Version
	return found, nil
}
