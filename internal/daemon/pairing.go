package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/config"
	"portredirector/internal/enroll"
	"portredirector/internal/reload"
	"portredirector/internal/reverse"
)

// errUnpaired is of ends of which one dials the other, and that do not know each other.
var errUnpaired = errors.New("a server that dials its client needs keys, or others would get the peers: " +
	"give --key on both ends, --server-key on the client and --client-key on the server (see `portredirector keygen`), or pair them: " +
	"`portredirector client -l … --invite` prints what to do on the server")

// openState opens the state of an end that was paired, which has a certain file, or is to be
// paired now. It makes none for nothing.
func openState(t config.Trust, file string, pairing bool) (*enroll.State, error) {
	if t.State == "" {
		return nil, nil
	}
	if _, err := os.Stat(filepath.Join(t.State, file)); !pairing && errors.Is(err, os.ErrNotExist) {
		return nil, errUnpaired
	}
	return enroll.Open(t.State)
}

// newJoined are the clients that a server has joined, which are read again when they change.
func newJoined(s *enroll.State, log *slog.Logger) (*clients, error) {
	return reload.New(log, func() (auth.Clients, error) {
		joined, err := s.Joined()
		if err != nil {
			return nil, err
		}
		all := make(auth.Clients)
		for _, j := range joined {
			if err := all.Add(&j.Client); err != nil {
				return nil, fmt.Errorf("%s: %w", s.JoinedFile(), err)
			}
		}
		return all, nil
	}, s.JoinedFile())
}

// join has a server and the client of an invitation know each other, unless they do.
func join(ctx context.Context, cfg config.Server, log *slog.Logger) error {
	i := cfg.Join
	s, err := enroll.Open(cfg.Trust.State)
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
			return widen(s, j, i.Ports, log)
		}
	}
	sure, err := auth.DialClients(own, func(k auth.PublicKey) bool { return k == i.Client }, false)
	if err != nil {
		return err
	}
	name, err := os.Hostname()
	if err != nil {
		name = "server"
	}
	dialer := &reverse.Dialer{Auth: sure, ConnectTimeout: cfg.ConnectTimeout, Heartbeat: cfg.Heartbeat, Log: log}
	err = dialer.Visit(ctx, i.Address, auth.Join, func(stream *auth.Stream) error {
		if err := enroll.WriteRequest(stream, i.Secret, name); err != nil {
			return err
		}
		return enroll.ReadAnswer(stream)
	})
	if err != nil {
		return fmt.Errorf("join the client at %s: %w", i.Address, err)
	}
	if err := s.Join(*i); err != nil {
		return err
	}
	log.Info("joined: the client and this server know each other's keys from now on",
		slog.String("client", i.Address), slog.String("kept_in", s.Dir()))
	return nil
}

// widen lets a client that was joined before bring peers of more ports, those of another
// invitation. It takes none away: the line of a unit may be older than what people wrote.
func widen(s *enroll.State, j enroll.Joined, ports []auth.Ports, log *slog.Logger) error {
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
	log.Info("joined already: the client may bring peers of more ports from now on", slog.String("client", j.Address), slog.Any("ports", all))
	return nil
}

// tellRefused warns of services whose peers no client that was joined may bring.
func tellRefused(cfg config.Server, known auth.Clients, log *slog.Logger) {
	if cfg.Trust.State == "" {
		return
	}
	for _, port := range slices.Sorted(maps.Keys(cfg.Services)) {
		may := false
		for _, c := range known {
			may = may || c.MayUse(port)
		}
		if !may {
			log.Warn("peers of this port will be refused: it is in no ports= of the clients that were joined; add it there, or join by a new invitation",
				slog.Int("port", int(port)), slog.String("file", filepath.Join(cfg.Trust.State, "joined")))
		}
	}
}

// invite makes an invitation and says it.
func invite(cfg config.Client, s *enroll.State, log *slog.Logger, say func(string)) error {
	host, port, err := net.SplitHostPort(cfg.ListenLinks)
	if err != nil {
		return err
	}
	if cfg.Invite.Host != "" {
		host = cfg.Invite.Host
	} else if a, err := netip.ParseAddr(host); host == "" || err == nil && a.IsUnspecified() {
		host = ownAddress()
		if a, err := netip.ParseAddr(host); err != nil || a.IsPrivate() || a.IsLoopback() {
			log.Warn("the invitation has an address that others may not reach: give --invite=HOST if it is reached by another", slog.String("address", host))
		}
	}
	i, err := s.Invite(net.JoinHostPort(host, port), cfg.PeerPorts(), enroll.DefaultValidity)
	if err != nil {
		return err
	}
	say("portredirector server --join " + i.String())
	log.Info("run the line that begins with `portredirector server --join` on the server, as root; it works once",
		slog.Duration("within", enroll.DefaultValidity))
	return nil
}

// ownAddress is the address by which this machine reaches others. Connecting a UDP socket
// sends nothing.
func ownAddress() string {
	for _, far := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		c, err := net.Dial("udp", far) //nolint:noctx // it does not wait
		if err != nil {
			continue
		}
		defer func() { _ = c.Close() }()
		host, _, _ := net.SplitHostPort(c.LocalAddr().String())
		return host
	}
	return "127.0.0.1"
}

// inviteForAnother invites servers to a client that runs already, and has the ports.
func inviteForAnother(ctx context.Context, cfg config.Client, s *enroll.State, log *slog.Logger, say func(string), err error) error {
	if cfg.Invite == nil || !errors.Is(err, syscall.EADDRINUSE) || !runs(ctx, cfg, s, log) {
		return err
	}
	log.Info("a client with this state runs here already, and will take the invitation", slog.String("state", s.Dir()))
	return invite(cfg, s, log, say)
}

// runs reports whether a client with the same key has the port for servers.
func runs(ctx context.Context, cfg config.Client, s *enroll.State, log *slog.Logger) bool {
	own, err := s.Key()
	if err != nil {
		return false
	}
	sure, err := auth.DialClients(own, func(k auth.PublicKey) bool { return k == own.Public() }, false)
	if err != nil {
		return false
	}
	host, port, err := net.SplitHostPort(cfg.ListenLinks)
	if err != nil {
		return false
	}
	if a, err := netip.ParseAddr(host); host == "" || err == nil && a.IsUnspecified() {
		host = "localhost"
	}
	dialer := &reverse.Dialer{Auth: sure, ConnectTimeout: time.Second, Heartbeat: cfg.Heartbeat, Log: log}
	return dialer.Visit(ctx, net.JoinHostPort(host, port), auth.Join, func(*auth.Stream) error { return nil }) == nil
}
