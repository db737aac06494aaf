package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/enroll"
	"portredirector/internal/reverse"
)

// invite makes an invitation and passes its line to say.
func (d *clientDaemon) invite() error {
	host, port, err := net.SplitHostPort(d.cfg.ListenLinks)
	if err != nil {
		return err
	}
	switch {
	case d.cfg.Invite.Host != "":
		host = d.cfg.Invite.Host
	case unspecified(host):
		host = ownAddress()
		if a, err := netip.ParseAddr(host); err != nil || a.IsPrivate() || a.IsLoopback() {
			d.log.Warn("the invitation has an address that others may not reach: give --invite=HOST if it is reached by another", slog.String("address", host))
		}
	}
	i, err := d.state.Invite(net.JoinHostPort(host, port), d.cfg.PeerPorts(), enroll.DefaultValidity)
	if err != nil {
		return err
	}
	d.env.Say("portredirector server --join " + i.String())
	d.log.Info("run the line that begins with `portredirector server --join` on the server, as root; it works once",
		slog.Duration("within", enroll.DefaultValidity))
	return nil
}

// unspecified reports whether a listener on host is on all addresses.
func unspecified(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "" || err == nil && a.IsUnspecified()
}

// ownAddress returns the address by which this machine reaches others. Connecting a UDP socket sends
// nothing.
func ownAddress() string {
	for _, far := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		c, err := net.Dial("udp", far) //nolint:noctx // it does not wait
		if err != nil {
			continue
		}
		host, _, _ := net.SplitHostPort(c.LocalAddr().String())
		_ = c.Close()
		return host
	}
	return "127.0.0.1"
}

// inviteForAnother invites a server on behalf of a client that runs already and has the ports. Else it
// returns the error of the start.
func (d *clientDaemon) inviteForAnother(ctx context.Context, err error) error {
	if d.cfg.Invite == nil || !errors.Is(err, syscall.EADDRINUSE) || !d.runsAlready(ctx) {
		return err
	}
	d.log.Info("a client with this state runs here already, and will take the invitation", slog.String("state", d.state.Dir()))
	return d.invite()
}

// runsAlready reports whether a client with the same key has the port for servers.
func (d *clientDaemon) runsAlready(ctx context.Context) bool {
	own, err := d.state.Key()
	if err != nil {
		return false
	}
	dialer, err := auth.DialClients(own, func(k auth.PublicKey) bool { return k == own.Public() }, false)
	if err != nil {
		return false
	}
	host, port, err := net.SplitHostPort(d.cfg.ListenLinks)
	if err != nil {
		return false
	}
	if unspecified(host) {
		host = "localhost"
	}
	clients := &reverse.Dialer{Auth: dialer, ConnectTimeout: time.Second, Heartbeat: d.cfg.Heartbeat, Log: d.log}
	return clients.Visit(ctx, net.JoinHostPort(host, port), auth.Join, func(*auth.Stream) error { return nil }) == nil
}
