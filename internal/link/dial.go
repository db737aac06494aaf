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
	"syscall"
	"time"
)

// portTries is how many source ports of our choice are tried before it is
// left to the kernel.
const portTries = 16

// Dialer opens links to one server. NewDialer makes one.
type Dialer struct {
	server  string
	timeout time.Duration
	alive   net.KeepAliveConfig
	ports   *ports
}

// NewDialer returns a dialer to server, "host:port"; a name is resolved at
// each dial. The timeout is for one link, names included.
func NewDialer(server string, timeout time.Duration, alive net.KeepAliveConfig) *Dialer {
	return &Dialer{server: server, timeout: timeout, alive: alive, ports: newPorts()}
}

// Server is where the links lead to.
func (d *Dialer) Server() string { return d.server }

// Dial opens a link, which the caller owns.
func (d *Dialer) Dial(ctx context.Context) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	var conn net.Conn
	var err error
	for range portTries {
		conn, err = d.dialFrom(ctx, d.ports.take())
		if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EADDRNOTAVAIL) {
			break
		}
	}
	if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EADDRNOTAVAIL) {
		conn, err = d.dialFrom(ctx, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("open link: %w", err)
	}
	return conn.(*net.TCPConn), nil //nolint:errcheck,forcetypeassert // "tcp" gives no other
}

// dialFrom dials from the given source port, 0 for one of the kernel's choice.
func (d *Dialer) dialFrom(ctx context.Context, port uint16) (net.Conn, error) {
	dialer := net.Dialer{KeepAlive: -1, KeepAliveConfig: d.alive} // off, unless the configuration has it
	dialer.SetMultipathTCP(false)                                 // it cannot be spliced at full speed
	if port != 0 {
		dialer.LocalAddr = &net.TCPAddr{Port: int(port)}
		dialer.Control = reuseAddr
	}
	conn, err := dialer.DialContext(ctx, "tcp", d.server)
	if err == nil && conn.LocalAddr().String() == conn.RemoteAddr().String() {
		// Nobody listens, and the socket met itself (RFC 9293, 3.5, simultaneous
		// open).
		_ = conn.Close()
		return nil, syscall.ECONNREFUSED
	}
	return conn, err
}

// reuseAddr lets a socket have the source port of a connection that is in
// TIME_WAIT, or that leads elsewhere.
func reuseAddr(_, _ string, raw syscall.RawConn) error {
	var err error
	if cerr := raw.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	}); cerr != nil {
		return cerr
	}
	return err
}
