package link

import (
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

// dialer opens connections to addresses.
type dialer struct {
	alive net.KeepAliveConfig
	ports *ports
}

// connect begins to open a connection, and does not wait; see [socket.Connect]. The
// caller owns the descriptor.
func (d *dialer) connect(to netip.AddrPort) (fd int, err error) {
	anyAddr := netip.IPv6Unspecified()
	if to.Addr().Is4() {
		anyAddr = netip.IPv4Unspecified()
	}
	for range portTries {
		switch port := d.ports.take(); port {
		case 0:
			return d.connectFromAny(to)
		case to.Port():
			continue // it might meet itself (RFC 9293, 3.5, simultaneous open)
		default:
			fd, err = socket.Connect(netip.AddrPortFrom(anyAddr, port), to, d.alive, reuseAddr)
		}
		if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EADDRNOTAVAIL) {
			return fd, wrap(err)
		}
	}
	return d.connectFromAny(to)
}

// connectFromAny leaves the source port to the kernel.
func (d *dialer) connectFromAny(to netip.AddrPort) (fd int, err error) {
	fd, err = socket.Connect(netip.AddrPort{}, to, d.alive, nil)
	return fd, wrap(err)
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("open link: %w", err)
}

// reuseAddr lets a socket have the source port of a connection that is in
// TIME_WAIT, or that leads elsewhere.
func reuseAddr(fd int) error {
	return syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
}

// pooledIdle is the silence after which keepalive asks the other end of a link that
// no peer has yet: earlier than of one in use, because a peer is about to get it.
const pooledIdle = 5 * time.Second

// ahead is a dialer for links that are opened ahead of need.
func (d *dialer) ahead() *dialer {
	alive := d.alive
	if !alive.Enable {
		alive = net.KeepAliveConfig{Enable: true, Idle: pooledIdle, Interval: pooledIdle, Count: 3}
	}
	alive.Idle = min(pooledIdle, max(alive.Idle, time.Second))
	return &dialer{alive: alive, ports: d.ports}
}

// use makes a link of ahead one like those of d.
func (d *dialer) use(fd int) {
	switch {
	case !d.alive.Enable:
		_ = socket.StopKeepAlive(fd)
	case d.alive.Idle > pooledIdle: // else it is that already
		_ = socket.KeepIdle(fd, d.alive.Idle)
	}
}
