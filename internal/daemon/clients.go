package daemon

import (
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"

	"portredirector/internal/auth"
	"portredirector/internal/config"
	"portredirector/internal/enroll"
	"portredirector/internal/ports"
	"portredirector/internal/reload"
)

// clients holds the authorized clients, or the servers of a client. It is read again when their file
// changes.
type clients = reload.Value[auth.Clients]

// newClients reads the clients of --client-key and --clients.
func newClients(t config.Trust, own auth.PrivateKey, read auth.ReadFile, log *slog.Logger) (*clients, error) {
	var files []string
	if t.Clients != "" {
		files = append(files, t.Clients)
	}
	v, err := reload.New(log, func() (auth.Clients, error) { return readClients(t, own, read) }, files...)
	if err == nil && len(v.Get()) == 0 { // at the start; later the last may be taken away
		err = fmt.Errorf("--clients %s: it has no client: NAME PUBLIC-KEY on a line of its own", t.Clients)
		return nil, config.About("clients", err)
	}
	return v, err
}

func readClients(t config.Trust, own auth.PrivateKey, read auth.ReadFile) (auth.Clients, error) {
	all := make(auth.Clients)
	if t.Clients != "" {
		text, err := read(t.Clients)
		if err == nil {
			all, err = auth.ParseClients(t.Clients, text)
		}
		if err != nil {
			return nil, config.About("clients", fmt.Errorf("--clients: %w", err))
		}
	}
	for k, c := range all {
		if err := own.Other(k); err != nil {
			return nil, config.About("clients", fmt.Errorf("--clients: %s: client %s: %w", t.Clients, c.Name, err))
		}
	}
	for _, k := range t.RemoteKeys {
		if err := own.Other(k); err != nil {
			return nil, config.About(config.ClientKeyOption, fmt.Errorf("--%s: %w", config.ClientKeyOption, err))
		}
		if err := all.Add(&auth.Client{Name: k.String(), Key: k}); err != nil {
			return nil, config.About(config.ClientKeyOption, fmt.Errorf("--%s %s: %w", config.ClientKeyOption, k, err))
		}
	}
	return all, nil
}

// newJoinedClients reads the clients that a server has joined.
func newJoinedClients(s *enroll.State, log *slog.Logger) (*clients, error) {
	return reload.New(log, func() (auth.Clients, error) {
		joined, err := s.Joined()
		if err != nil {
			return nil, err
		}
		all := make(auth.Clients)
		for _, j := range joined {
			if err := all.Add(&j.Client); err != nil {
				return nil, fmt.Errorf("--%s: %w", s.JoinedFile(), err)
			}
		}
		return all, nil
	}, s.JoinedFile())
}

// warnOfUnusedPorts warns of services whose peers no joined client may bring.
func warnOfUnusedPorts(cfg config.Server, known auth.Clients, log *slog.Logger) {
	if cfg.Trust.State == "" {
		return
	}
	for _, port := range slices.Sorted(maps.Keys(cfg.Services)) {
		may := false
		for _, c := range known {
			may = may || c.MayUse(ports.Port{Number: port})
		}
		if !may {
			log.Warn("peers of this port will be refused: it is in no ports= of the clients that were joined; add it there, or join by a new invitation",
				slog.Int("port", int(port)), slog.String("file", filepath.Join(cfg.Trust.State, "joined")))
		}
	}
}
