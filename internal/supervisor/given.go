package supervisor

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// given are listening sockets of the service manager, see sd_listen_fds(3).
type given []givenSocket

type givenSocket struct {
	at netip.AddrPort
	fd int
}

// givenSockets returns those that were passed to this process.
func givenSockets(log *slog.Logger) (all given) {
	for _, f := range activation.Files(true) {
		l, err := net.FileListener(f)
		_ = f.Close()
		if err != nil {
			log.Warn("a socket of the service manager is of no use", slog.String("name", f.Name()), slog.Any("error", err))
			continue
		}
		t, ok := l.(*net.TCPListener)
		if !ok {
			log.Warn("a socket of the service manager is no TCP listener, closing it", slog.String("name", f.Name()), slog.String("address", l.Addr().String()))
			_ = l.Close()
			continue
		}
		at := t.Addr().(*net.TCPAddr).AddrPort() //nolint:errcheck,forcetypeassert // a TCP listener's
		fd, err := duplicate(t, true)
		_ = t.Close()
		if err == nil {
			all = append(all, givenSocket{netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), fd})
		}
	}
	return all
}

// take returns a socket that is on an address, whatever its name, and takes it out.
func (g *given) take(ctx context.Context, address string) (fd int, found bool) {
	if len(*g) == 0 {
		return none, false
	}
	const lookup = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, lookup)
	defer cancel()
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return none, false
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil {
		return none, false
	}
	var addrs []netip.Addr
	if host == "" {
		addrs = []netip.Addr{netip.IPv6Unspecified(), netip.IPv4Unspecified()}
	} else if addrs, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
		return none, false
	}
	for _, a := range addrs {
		at := netip.AddrPortFrom(a.Unmap(), uint16(port)) //nolint:gosec // a port
		if i := slices.IndexFunc(*g, func(s givenSocket) bool { return s.at == at }); i >= 0 {
			fd = (*g)[i].fd
			*g = slices.Delete(*g, i, i+1)
			return fd, true
		}
	}
	return none, false
}

// close closes the sockets that nobody has taken.
func (g *given) close(log *slog.Logger) {
	for _, s := range *g {
		log.Warn("the file does not name the address of this socket of the service manager, closing it", slog.String("address", s.at.String()))
		_ = unix.Close(s.fd)
	}
	*g = nil
}
