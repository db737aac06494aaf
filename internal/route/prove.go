package route

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"portredirector/internal/socket"
)

// Documentation addresses (RFC 5737, RFC 3849) stand for a peer: they are
// nobody's.
var (
	documentationV4 = netip.MustParseAddr("198.51.100.77")
	documentationV6 = netip.MustParseAddr("2001:db8::77")
)

// proofTimeout is for a connection of this machine with itself.
const proofTimeout = 3 * time.Second

// errNoReply is a proof whose connection was not made in time.
var errNoReply = errors.New("no reply came back")

// proof is a service of our own, on this machine, to which a way is proved.
type proof struct {
	listener *net.TCPListener
	service  netip.AddrPort // where it listens
}

// newProof makes one for the way to a service at addr; a tracked way is proved at
// the address of this machine that it reaches the service from.
func newProof(ctx context.Context, way Way, addr netip.Addr) (*proof, error) {
	at, err := provingGround(ctx, way, addr)
	if err != nil {
		return nil, err
	}
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
	if err != nil {
		return nil, fmt.Errorf("prove it: %w", err)
	}
	return &proof{listener: l, service: unmap(l.Addr().(*net.TCPAddr).AddrPort())}, nil //nolint:errcheck,forcetypeassert // a TCP listener's
}

func (p *proof) close() { _ = p.listener.Close() }

// dial makes a transparent dial with the mark, from a documentation address, and
// looks whether the listener saw that address.
func (p *proof) dial(ctx context.Context, mark uint32) error {
	claim := documentationV4
	if p.service.Addr().Is6() {
		claim = documentationV6
	}
	const low, high = 1024, 32768                                      // below the ports that the kernel gives out
	from := netip.AddrPortFrom(claim, uint16(low+rand.IntN(high-low))) //nolint:gosec // no secret; fits
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	var dialer socket.TransparentDialer
	conn, _, err := dialer.Dial(ctx, from, p.service, mark)
	switch {
	case errors.Is(err, context.DeadlineExceeded) || isTimeout(err):
		return fmt.Errorf("%w to a dial from %s to %s", errNoReply, from, p.service)
	case err != nil:
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetLinger(0) // leave nothing in TIME_WAIT

	if err := p.listener.SetDeadline(time.Now().Add(proofTimeout)); err != nil {
		return err
	}
	accepted, err := p.listener.AcceptTCP()
	if err != nil {
		return fmt.Errorf("prove it: %w", err)
	}
	defer func() { _ = accepted.Close() }()
	if seen := accepted.RemoteAddr().(*net.TCPAddr).AddrPort(); unmap(seen) != from { //nolint:errcheck,forcetypeassert // a TCP connection's
		return fmt.Errorf("a dial from %s arrived as from %s: something on this machine rewrites sources", from, seen)
	}
	return nil
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// provingGround is an address of this machine on which the way can be proved.
func provingGround(ctx context.Context, way Way, service netip.Addr) (netip.Addr, error) {
	if way&loopback != 0 {
		return service.Unmap(), nil
	}
	// Connecting a UDP socket sends nothing, and its address is the one that
	// the kernel would reach the service from.
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp", netip.AddrPortFrom(service, 9).String())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("no route to %s: %w", service, err)
	}
	defer func() { _ = c.Close() }()
	own := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap() //nolint:errcheck,forcetypeassert // a UDP socket's
	return own.WithZone(""), nil
}
