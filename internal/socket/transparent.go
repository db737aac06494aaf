package socket

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

// ErrClaim says that no connection can come from the claim: it is the service
// itself, or the kernel put an address of this machine in its place, as it does for
// broadcast addresses.
var ErrClaim = errors.New("the claim is no address of a peer")

// DialCounts tells how many dials were begun on which rung, or on none.
type DialCounts struct {
	Exact, AnyPort, Refused uint64
}

// TransparentDialer dials transparently. The zero value is ready for use.
type TransparentDialer struct {
	// KeepAlive is that of the sockets; the zero value is off.
	KeepAlive net.KeepAliveConfig

	exact, anyPort, refused atomic.Uint64
}

// Counts returns the counts so far.
func (d *TransparentDialer) Counts() DialCounts {
	return DialCounts{Exact: d.exact.Load(), AnyPort: d.anyPort.Load(), Refused: d.refused.Load()}
}

// Connect begins to connect to service with claim as the source, marking the
// socket's packets with mark, and does not wait; see [Connect]. Both must
// be of one family. Running out of the ladder is ErrCollision. The caller owns
// the descriptor.
func (d *TransparentDialer) Connect(claim, service netip.AddrPort, mark uint32) (fd int, rung Rung, err error) {
	fd, err = d.connect(claim, service, mark)
	if err == nil {
		d.exact.Add(1)
		return fd, Exact, nil
	}
	if !collides(err) && !protected(claim, err) {
		return -1, Exact, err
	}
	fd, err = d.connect(netip.AddrPortFrom(claim.Addr(), 0), service, mark)
	if err == nil {
		d.anyPort.Add(1)
		return fd, AnyPort, nil
	}
	if collides(err) {
		d.refused.Add(1)
		err = fmt.Errorf("%w: %w", ErrCollision, err)
	}
	return -1, AnyPort, err
}

// Dial is Connect, and waits. The errors of the kernel are found by errors.Is
// (syscall.ECONNREFUSED, …).
func (d *TransparentDialer) Dial(ctx context.Context, claim, service netip.AddrPort, mark uint32) (*net.TCPConn, Rung, error) {
	fd, rung, err := d.Connect(claim, service, mark)
	if err != nil {
		return nil, rung, err
	}
	if err := Wait(ctx, fd); err != nil {
		Close(fd)
		return nil, rung, err
	}
	conn, err := Conn(fd)
	return conn, rung, err
}

// collides reports whether a dial failed because its source is taken:
// EADDRINUSE by bind(2), where a local socket listens there, EADDRNOTAVAIL by
// connect(2), where the same connection exists (__inet_check_established in
// net/ipv4/inet_hashtables.c).
func collides(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EADDRINUSE)
}

// protected reports whether a dial failed because its source port is one of those below
// 1024, for which the process lacks CAP_NET_BIND_SERVICE (bind(2), EACCES). Some peers
// come from there, those of NFS on purpose.
func protected(claim netip.AddrPort, err error) bool {
	return claim.Port() < 1024 && errors.Is(err, syscall.EACCES)
}

func (d *TransparentDialer) connect(claim, service netip.AddrPort, mark uint32) (int, error) {
	fd, err := Connect(claim, service, d.KeepAlive, func(fd int) error {
		return prepare(fd, service.Addr().Is4(), mark, claim.Port() == 0)
	})
	if err != nil {
		return -1, err
	}
	switch source := Local(fd); {
	case source.Addr() != claim.Addr():
		Reset(fd)
		return -1, fmt.Errorf("%w: %s became %s", ErrClaim, claim.Addr(), source.Addr())
	case source == service:
		// A socket that connects to itself (RFC 9293, 3.5, simultaneous open) would
		// keep the service from its port.
		Reset(fd)
		return -1, fmt.Errorf("%w: %s is the service", ErrClaim, source)
	}
	return fd, nil
}

// prepare sets what a transparent dial needs, before bind(2).
func prepare(fd int, is4 bool, mark uint32, anyPort bool) error {
	if err := setTransparent(fd, is4); err != nil {
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

// CheckTransparent tries whether this process may dial transparently at all.
func CheckTransparent() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	return setTransparent(fd, true)
}

func setTransparent(fd int, is4 bool) error {
	if !is4 {
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
