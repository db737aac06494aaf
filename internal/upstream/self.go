package upstream

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"

	"portredirector/internal/socket"
)

// ErrSelf is the failure of a server that is this client itself. Each link to it would be
// a peer that needs a link, without end.
var ErrSelf = errors.New("it leads to this client itself")

// IsSelf reports whether at, where a peer has connected to this client, is the address of
// a server. Such a server is left out.
func (ss *Servers) IsSelf(at netip.AddrPort) bool {
	self := false
	for _, s := range *ss.all.Load() {
		if s.source.dials(at) {
			s.source.fail(at, ErrSelf)
			self = true
		}
	}
	return self
}

func (d *dialed) dials(at netip.AddrPort) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Contains(d.addrs, at)
}

func (r *ReverseServer) dials(netip.AddrPort) bool { return false }

// Addrs returns the addresses of the servers that are in use.
func (ss *Servers) Addrs() (all []netip.Addr) {
	for _, s := range *ss.all.Load() {
		if at := s.best.Load(); at != nil {
			all = append(all, at.Addr())
		}
	}
	return all
}

// DropForeign closes the idle links whose local address this machine has no more, as
// reported by own. Nothing that is sent over them is answered.
func (ss *Servers) DropForeign(own func(netip.Addr) bool) {
	for _, s := range *ss.all.Load() {
		n := s.pool.drop(func(l *pooled) bool {
			a := socket.Local(l.fd).Addr()
			return a.IsValid() && !a.IsUnspecified() && !a.IsLoopback() && !own(a)
		})
		if n > 0 {
			ss.cfg.Log.Info("this machine has lost an address, closing the idle links from there",
				slog.String("server", s.name), slog.Int("links", n))
			s.source.maintain()
		}
	}
}
