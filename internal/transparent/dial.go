// Package transparent dials a service with the peer's own address as the
// source.
//
// The source of such a dial is no address of this machine. IP_TRANSPARENT
// (ip(7); IPV6_TRANSPARENT for IPv6, include/uapi/linux/in6.h) permits to
// bind to it all the same, for which the process needs CAP_NET_ADMIN. That
// the answers come back to the socket, and do not leave for the real peer,
// is the return route's doing; the mark given to Dial is what it goes by.
//
// # The collision ladder
//
// Two connections to one service cannot have the same source ip:port, and in
// real life one peer comes twice: through two clients, or through two ports
// that lead to one service. So a dial goes down a ladder: the peer's exact
// ip:port; the peer's ip with any port; refusal. Each [Dialer] counts its
// rungs.
package transparent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Rung is how far down the collision ladder a dial had to go.
type Rung uint8

// The rungs of the ladder.
const (
	Exact   Rung = iota // the claim's own ip:port
	AnyPort             // the claim's ip, a port of the kernel's choice
)

// ErrCollision is the last rung: the claim's ip has no port left towards the
// service.
var ErrCollision = errors.New("every source port of the claim is taken at the service")

// ErrClaim says that no connection can come from the claim: the kernel put an
// address of this machine in its place, as it does for broadcast addresses.
var ErrClaim = errors.New("the claim is no address of a peer")

// Counts tells how many dials ended on which rung.
type Counts struct {
	Exact, AnyPort, Refused uint64
}

// Dialer dials transparently. The zero value is ready for use.
type Dialer struct {
	// KeepAlive is that of the sockets; the zero value is off.
	KeepAlive net.KeepAliveConfig

	exact, anyPort, refused atomic.Uint64
}

// Counts returns the counts so far.
func (d *Dialer) Counts() Counts {
	return Counts{Exact: d.exact.Load(), AnyPort: d.anyPort.Load(), Refused: d.refused.Load()}
}

// Dial connects to service with claim as the source, marking the socket's
// packets with mark. Both must be of one family. The errors of the kernel are
// found by errors.Is (syscall.ECONNREFUSED, …); running out of the ladder is
// ErrCollision.
func (d *Dialer) Dial(ctx context.Context, claim, service netip.AddrPort, mark uint32) (*net.TCPConn, Rung, error) {
	conn, err := d.dial(ctx, claim, service, mark)
	if err == nil {
		d.exact.Add(1)
		return conn, Exact, nil
	}
	if !collides(err) {
		return nil, Exact, err
	}
	conn, err = d.dial(ctx, netip.AddrPortFrom(claim.Addr(), 0), service, mark)
	if err == nil {
		d.anyPort.Add(1)
		return conn, AnyPort, nil
	}
	if collides(err) {
		d.refused.Add(1)
		err = fmt.Errorf("%w: %w", ErrCollision, err)
	}
	return nil, AnyPort, err
}

// collides reports whether a dial failed because its source is taken:
// EADDRINUSE by bind(2), where a local socket listens there, EADDRNOTAVAIL by
// connect(2), where the same connection exists (__inet_check_established in
// net/ipv4/inet_hashtables.c).
func collides(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EADDRINUSE)
}

func (d *Dialer) dial(ctx context.Context, claim, service netip.AddrPort, mark uint32) (*net.TCPConn, error) {
	dialer := net.Dialer{
		KeepAlive:       -1, // unless the configuration has it
		KeepAliveConfig: d.KeepAlive,
		Control: func(network, _ string, raw syscall.RawConn) error {
			var err error
			if cerr := raw.Control(func(fd uintptr) {
				err = prepare(int(fd), network, mark, claim.Port() == 0)
			}); cerr != nil {
				return cerr
			}
			return err
		},
	}
	dialer.SetMultipathTCP(false)
	conn, err := dialer.DialTCP(ctx, "tcp", claim, service)
	if err != nil {
		return nil, err
	}
	source := conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr() //nolint:errcheck,forcetypeassert // a TCP connection's
	if source.Unmap() != claim.Addr() {
		_ = conn.SetLinger(0)
		_ = conn.Close()
		return nil, fmt.Errorf("%w: %s became %s", ErrClaim, claim.Addr(), source)
	}
	return conn, nil
}

// prepare sets what a transparent dial needs, before bind(2).
func prepare(fd int, network string, mark uint32, anyPort bool) error {
	if err := setTransparent(fd, network); err != nil {
		return err
	}
	// Several connections of one peer leave from one ip:port, each to another
	// service.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("set SO_REUSEADDR: %w", err)
	}
	if anyPort {
		// The port is chosen by connect(2), where the whole connection must be
		// unique, not by bind(2), where the port alone must be.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return fmt.Errorf("set IP_BIND_ADDRESS_NO_PORT: %w", err)
		}
	}
	if mark != 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
			return fmt.Errorf("set SO_MARK: %w", err)
		}
	}
	return nil
}

// Permitted tries whether this process may dial transparently at all.
func Permitted() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	return setTransparent(fd, "tcp4")
}

func setTransparent(fd int, network string) error {
	if network == "tcp6" {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT, 1); err != nil {
			return fmt.Errorf("set IPV6_TRANSPARENT: %w", err)
		}
		return nil
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TRANSPARENT, 1); err != nil {
		return fmt.Errorf("set IP_TRANSPARENT: %w", err)
	}
	return nil
}
