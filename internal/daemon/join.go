package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"portredirector/internal/auth"
	"portredirector/internal/enroll"
	"portredirector/internal/ports"
	"portredirector/internal/reverse"
	"portredirector/internal/wire"
)

// join makes this server and the client of an invitation known to each other, unless they are.
func (d *serverDaemon) join(ctx context.Context) error {
	i := d.cfg.Join
	if i == nil {
		return nil
	}
	s, err := enroll.Open(d.cfg.Trust.State)
	if err != nil {
		return err
	}
	joined, err := s.Joined()
	if err != nil {
		return err
	}
	own, err := s.Key()
	if err != nil {
		return err
	}
	if own.Public() == i.Client {
		return fmt.Errorf("--join: the invitation was made here (in %s): run the line on the server", s.Dir())
	}
	for _, j := range joined {
		if j.Address == i.Address && j.Client.Key == i.Client {
			return d.widen(s, j, i.Ports)
		}
	}
	if err := d.showInvitation(ctx, own, i); err != nil {
		return fmt.Errorf("join the client at %s: %w", i.Address, err)
	}
	if err := s.Join(*i); err != nil {
		return err
	}
	d.log.Info("joined: the client and this server know each other's keys from now on",
		slog.String("client", i.Address), slog.String("kept_in", s.Dir()))
	return nil
}

// showInvitation shows the secret of an invitation to the client that made it.
func (d *serverDaemon) showInvitation(ctx context.Context, own auth.PrivateKey, i *enroll.Invitation) error {
	dialer, err := auth.DialClients(own, func(k auth.PublicKey) bool { return k == i.Client }, false)
	if err != nil {
		return err
	}
	name, err := os.Hostname()
	if err != nil {
		name = "server"
	}
	clients := &reverse.Dialer{Auth: dialer, ConnectTimeout: d.cfg.ConnectTimeout, Heartbeat: d.cfg.Heartbeat, Log: d.log}
	return clients.Visit(ctx, i.Address, auth.Join, func(stream *auth.Stream) error {
		if err := wire.WriteJoin(stream, wire.Join{Secret: i.Secret, Name: name}); err != nil {
			return err
		}
		return enroll.ReadAnswer(stream)
	})
}

// widen authorizes a joined client for the ports of another invitation. It takes none away: the line
// of a unit may be older than what people wrote.
func (d *serverDaemon) widen(s *enroll.State, j enroll.Joined, ports []ports.Range) error {
	all := j.Client.Ports
	for _, p := range ports {
		if !j.Client.MayUseAll(p) {
			all = append(all, p)
		}
	}
	if len(all) == len(j.Client.Ports) {
		return nil
	}
	if err := s.Join(enroll.Invitation{Address: j.Address, Client: j.Client.Key, Ports: all}); err != nil {
		return err
	}
	d.log.Info("joined already: the client may bring peers of more ports from now on", slog.String("client", j.Address), slog.Any("ports", all))
	return nil
}
