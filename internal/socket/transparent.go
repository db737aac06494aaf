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

// Rung numbers the steps of the ladder that a dial goes down when its source is taken.
type Rung uint8

// The rungs of the ladder.
const (
	Exact   Rung = iota // the claim's own ip:port
	AnyPort             // the claim's ip, a port of the kernel's choice
)

// ErrCollision ends the ladder: the claim's ip has no port left towards the service.
var ErrCollision = errors.New("every source port of the claim is taken at the service")

// ErrClaim says that no connection can come from the claim: it is the service
// itself, or the kernel put an address of this machine in its place, as it does for
// broadcast addresses.
var ErrClaim = errors.New("the claim is no address of a peer")

// DialCounts counts the dials that were started, by rung, and those that were refused.
type DialCounts struct {
	Exact, AnyPort, Refused uint64
}

// TransparentDialer dials transparently. The zero value is ready for use, and takes the
// port of each peer from all programs of this machine that leave the choice to the kernel;
// see [NewTransparentDialer].
type TransparentDialer struct {
	shared portRange // the ports that are shared with other programs

	exact, anyPort, refused atomic.Uint64
}

// NewTransparentDialer returns a dialer that shares the ports of peers with other programs
// of this machine, where the kernel can.
func NewTransparentDialer() *TransparentDialer {
	d := new(TransparentDialer)
	d.shared.detect()
	return d
}

// Counts returns the counts so far.
func (d *TransparentDialer) Counts() DialCounts {
	return DialCounts{Exact: d.exact.Load(), AnyPort: d.anyPort.Load(), Refused: d.refused.Load()}
}

// Connect starts to connect to service with claim as the source, and marks the socket's
// packets with mark. It does not block; see [Connect]. Both must be of one family. It is
// ErrCollision if the ladder ends. The caller owns the descriptor.
func (d *TransparentDialer) Connect(claim, service netip.AddrPort, mark uint32) (fd int, rung Rung, err error) {
	return d.climb(claim, func() (int, Rung, error) {
		return d.connectExact(claim, service, mark)
	}, func() (int, error) {
		fd, _, err := d.connect(claim, service, mark, anyPort)
		return fd, err
	})
}

// climb calls exact. If the claim's port is taken or not permitted, climb calls other. It counts
// the outcome.
func (d *TransparentDialer) climb(claim netip.AddrPort, exact func() (int, Rung, error), other func() (int, error)) (fd int, rung Rung, err error) {
	fd, rung, err = exact()
	if err != nil && (collides(err) || protected(claim, err)) {
		rung = AnyPort
		if fd, err = other(); err != nil && collides(err) {
			d.refused.Add(1)
			err = fmt.Errorf("%w: %w", ErrCollision, err)
		}
	}
	switch {
	case err != nil:
		return -1, rung, err
	case rung == Exact:
		d.exact.Add(1)
	default:
		d.anyPort.Add(1)
	}
	return fd, rung, nil
}

// connectExact connects from the claim's own port. A port that another socket is bound to
// cannot be shared; it may still be bound to.
func (d *TransparentDialer) connectExact(claim, service netip.AddrPort, mark uint32) (fd int, rung Rung, err error) {
	if d.shared.has(claim.Port()) {
		fd, source, err := d.connect(claim, service, mark, sharedPort)
		switch {
		case err == nil && source.Port() != claim.Port(): // the sysctl has changed
			d.shared.forget()
			return fd, AnyPort, nil
		case err == nil || !collides(err):
			return fd, Exact, err
		}
	}
	fd, _, err = d.connect(claim, service, mark, boundPort)
	return fd, Exact, err
}

// Dial is Connect, and blocks until the connection is there. The errors of the kernel are
// found by errors.Is (syscall.ECONNREFUSED, …).
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
// net/ipv4/inet_hashtables.c) or the one port of a range is bound (__inet_hash_connect).
func collides(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EADDRINUSE)
}

// protected reports whether a dial failed because its source port is below 1024 and the
// process lacks CAP_NET_BIND_SERVICE (bind(2), EACCES). Some peers come from there, those
// of NFS on purpose.
func protected(claim netip.AddrPort, err error) bool {
	return claim.Port() < 1024 && errors.Is(err, syscall.EACCES)
}

// connect starts one attempt, and returns the source that the kernel has chosen.
func (d *TransparentDialer) connect(claim, service netip.AddrPort, mark uint32, by portChoice) (fd int, source netip.AddrPort, err error) {
	from := netip.AddrPortFrom(scoped(claim.Addr()), claim.Port())
	if by != boundPort {
		from = netip.AddrPortFrom(from.Addr(), 0)
	}
	fd, err = Connect(from, service, net.KeepAliveConfig{}, func(fd int) error {
		return prepare(fd, service.Addr().Is4(), mark, by, claim.Port())
	})
	if err != nil {
		return -1, source, err
	}
	switch source = Local(fd); {
	case source.Addr() != from.Addr():
		Reset(fd)
		return -1, source, fmt.Errorf("%w: %s became %s", ErrClaim, claim.Addr(), source.Addr())
	case source == service:
		// A socket that connects to itself (RFC 9293, 3.5, simultaneous open) would
		// keep the service from its port.
		Reset(fd)
		return -1, source, fmt.Errorf("%w: %s is the service", ErrClaim, source)
	}
	return fd, source, nil
}

// scoped returns a with the zone of loopback if it is an IPv6 link-local address, which
// can be bound with a zone only (RFC 4007). Its replies come back on loopback, so a service
// on this machine can be dialed from it.
func scoped(a netip.Addr) netip.Addr {
	if a.Is6() && a.IsLinkLocalUnicast() {
		return a.WithZone(loopbackZone)
	}
	return a
}

// loopbackZone is the index of the interface lo, the same in each network namespace
// (LOOPBACK_IFINDEX).
const loopbackZone = "1"

// prepare sets the options of a transparent dial, before bind(2).
func prepare(fd int, is4 bool, mark uint32, by portChoice, port uint16) error {
	if err := setTransparent(fd, is4); err != nil {
		return err
	}
	// Several connections of one peer leave from one ip:port, each to another
	// service. A local service may listen on the port of a peer.
	if err := set(fd, option{"SO_REUSEADDR", unix.SOL_SOCKET, unix.SO_REUSEADDR, 1}); err != nil {
		return err
	}
	if err := by.set(fd, port); err != nil || mark == 0 {
		return err
	}
	return set(fd, option{"SO_MARK", unix.SOL_SOCKET, unix.SO_MARK, int(mark)})
}

// CheckTransparent returns an error if this process may not dial transparently.
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
		return set(fd, option{"IPV6_TRANSPARENT", unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT, 1})
	}
	return set(fd, option{"IP_TRANSPARENT", unix.IPPROTO_IP, unix.IP_TRANSPARENT, 1})
}
