package supervisor

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"portredirector/internal/ports"
)

// given are listening sockets of the service manager, see sd_listen_fds(3).
type given []givenSocket

type givenSocket struct {
	protocol ports.Protocol
	at       netip.AddrPort
	fd       int
}

// givenSockets returns those that were passed to this process.
func givenSockets(log *slog.Logger) (all given) {
	for _, f := range activation.Files(true) {
		s, err := givenOf(f)
		_ = f.Close()
		if err != nil {
			log.Warn("closing an unusable socket of the service manager", slog.String("name", f.Name()), slog.Any("error", err))
			continue
		}
		s.at = netip.AddrPortFrom(s.at.Addr().Unmap(), s.at.Port())
		all = append(all, s)
	}
	return all
}

// errNoListener is returned for a socket of another kind.
var errNoListener = errors.New("neither a TCP listener nor a UDP socket")

// givenOf duplicates a socket.
func givenOf(f *os.File) (s givenSocket, err error) {
	if c, perr := net.FilePacketConn(f); perr == nil {
		defer func() { _ = c.Close() }()
		u, ok := c.(*net.UDPConn)
		if !ok {
			return s, errNoListener
		}
		s.protocol, s.at = ports.UDP, u.LocalAddr().(*net.UDPAddr).AddrPort() //nolint:errcheck,forcetypeassert // a UDP socket's
		s.fd, err = duplicate(u, true)
		return s, err
	}
	l, err := net.FileListener(f)
	if err != nil {
		return s, err
	}
	defer func() { _ = l.Close() }()
	t, ok := l.(*net.TCPListener)
	if !ok {
		return s, errNoListener
	}
	s.at = t.Addr().(*net.TCPAddr).AddrPort() //nolint:errcheck,forcetypeassert // a TCP listener's
	s.fd, err = duplicate(t, true)
	return s, err
}

// take returns a socket that is on an address, whatever its name, and takes it out.
func (g *given) take(ctx context.Context, address string) (fd int, found bool) {
	if len(*g) == 0 {
		return none, false
	}
	const lookup = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, lookup)
	defer cancel()
	address, protocol := ports.CutProtocol(address)
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return none, false
	}
	port, err := net.DefaultResolver.LookupPort(ctx, protocol.String(), service)
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
		if i := slices.IndexFunc(*g, func(s givenSocket) bool { return s.protocol == protocol && s.at == at }); i >= 0 {
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
