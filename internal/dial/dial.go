// Package dial opens the TCP connections of links.
//
// A [Dialer] may choose the source port of each connection itself, so that it can open
// more of them in a minute than there are ports; see [Ports]. [Dialer.Connect]
// begins a connection and does not wait, [Dialer.Race] waits for the first of several
// addresses that answers. [Congestion] is the congestion control of links, whichever end
// opens them.
package dial

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"

	"portredirector/internal/socket"
)

// portTries is the number of source ports that are tried before the kernel chooses one.
const portTries = 16

// ErrTimeout is the failure of an address that does not answer.
var ErrTimeout = errors.New("connect: no answer")

// Dialer opens connections. Its methods may be called concurrently.
type Dialer struct {
	KeepAlive  net.KeepAliveConfig // of the connections
	Ports      *Ports              // nil leaves the choice of source ports to the kernel
	Congestion *Congestion         // nil is that of the system
}

// Connect begins to open a connection and does not wait; see [socket.Connect]. The
// caller owns the descriptor.
func (d *Dialer) Connect(to netip.AddrPort) (fd int, err error) {
	anyAddr := netip.IPv6Unspecified()
	if to.Addr().Is4() {
		anyAddr = netip.IPv4Unspecified()
	}
	for range portTries {
		switch port := d.Ports.take(); port {
		case 0:
			return d.connectFromAny(to)
		case to.Port():
			continue // it might connect to itself (RFC 9293, 3.5, simultaneous open)
		default:
			fd, err = socket.Connect(netip.AddrPortFrom(anyAddr, port), to, d.KeepAlive, d.prepareBound)
		}
		if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EADDRNOTAVAIL) {
			return fd, wrap(err)
		}
	}
	return d.connectFromAny(to)
}

// connectFromAny leaves the source port to the kernel.
func (d *Dialer) connectFromAny(to netip.AddrPort) (fd int, err error) {
	fd, err = socket.Connect(netip.AddrPort{}, to, d.KeepAlive, d.prepare)
	return fd, wrap(err)
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("open link: %w", err)
}

// prepareBound lets a socket use a source port whose last connection is in TIME_WAIT, or
// has another destination.
func (d *Dialer) prepareBound(fd int) error {
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	return d.prepare(fd)
}

// prepare sets the options that all links have.
func (d *Dialer) prepare(fd int) error {
	d.Congestion.Set(fd)
	return nil
}

// Exhausted reports whether err is a local failure that no other server would avoid.
func Exhausted(err error) bool {
	return slices.ContainsFunc([]syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL,
	}, func(errno syscall.Errno) bool { return errors.Is(err, errno) })
}
