// Package link opens the connections between client and server. A link
// carries one peer: its header goes first, see package header.
//
// Here a link is a plain TCP connection, dialled by the client when a peer
// comes.
package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"portredirector/internal/socket"
)

// portTries is how many source ports of our choice are tried before it is
// left to the kernel.
const portTries = 16

// Dialer opens links to one server. NewDialer makes one.
type Dialer struct {
	server  string
	addr    netip.AddrPort // of a server that is no name
	timeout time.Duration
	alive   net.KeepAliveConfig
	ports   *ports
}

// NewDialer returns a dialer to server, "host:port"; a name is resolved at
// each dial. The timeout is for a Dial, names included.
func NewDialer(server string, timeout time.Duration, alive net.KeepAliveConfig) *Dialer {
	addr, _ := netip.ParseAddrPort(server)
	return &Dialer{
		server: server, addr: netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()),
		timeout: timeout, alive: alive, ports: newPorts(),
	}
}

// Server is where the links lead to.
func (d *Dialer) Server() string { return d.server }

// Named reports whether the server is a name, so that a link takes a Dial.
func (d *Dialer) Named() bool { return !d.addr.IsValid() }

// Connect begins to open a link to a server that is no name, and does not wait;
// see [socket.Connect]. The caller owns the descriptor.
func (d *Dialer) Connect() (fd int, err error) {
	anyAddr := netip.IPv6Unspecified()
	if d.addr.Addr().Is4() {
		anyAddr = netip.IPv4Unspecified()
	}
	err = d.fromPort(func(port uint16) error {
		switch port {
		case 0:
			fd, err = socket.Connect(netip.AddrPort{}, d.addr, d.alive, nil)
		case d.addr.Port():
			return syscall.EADDRINUSE // it might meet itself (RFC 9293, 3.5, simultaneous open)
		default:
			fd, err = socket.Connect(netip.AddrPortFrom(anyAddr, port), d.addr, d.alive, reuseAddr)
		}
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("open link: %w", err)
	}
	return fd, nil
}

// Dial opens a link and waits for it. The caller owns the descriptor.
func (d *Dialer) Dial(ctx context.Context) (fd int, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	var conn net.Conn
	err = d.fromPort(func(port uint16) error {
		conn, err = d.dialFrom(ctx, port)
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("open link: %w", err)
	}
	return socket.Detach(conn.(*net.TCPConn)) //nolint:errcheck,forcetypeassert // "tcp" gives no other
}

// fromPort tries source ports until dial can have one.
func (d *Dialer) fromPort(dial func(port uint16) error) error {
	for range portTries {
		if err := dial(d.ports.take()); !isTaken(err) {
			return err
		}
	}
	return dial(0) // one of the kernel's choice
}

// isTaken reports whether a dial failed for its source port.
func isTaken(err error) bool {
	return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EADDRNOTAVAIL)
}

// dialFrom dials from the given source port, 0 for one of the kernel's choice.
func (d *Dialer) dialFrom(ctx context.Context, port uint16) (net.Conn, error) {
	dialer := net.Dialer{KeepAlive: -1, KeepAliveConfig: d.alive} // off, unless the configuration has it
	dialer.SetMultipathTCP(false)                                 // it cannot be spliced at full speed
	if port != 0 {
		dialer.LocalAddr = &net.TCPAddr{Port: int(port)}
		dialer.Control = func(_, _ string, raw syscall.RawConn) (err error) {
			cerr := raw.Control(func(fd uintptr) { err = reuseAddr(int(fd)) })
			return errors.Join(cerr, err)
		}
	}
	conn, err := dialer.DialContext(ctx, "tcp", d.server)
	if err == nil && conn.LocalAddr().String() == conn.RemoteAddr().String() {
		// Nobody listens, and the socket met itself.
		_ = conn.Close()
		return nil, syscall.ECONNREFUSED
	}
	return conn, err
}

// reuseAddr lets a socket have the source port of a connection that is in
// TIME_WAIT, or that leads elsewhere.
func reuseAddr(fd int) error {
	return syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
}
