package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"portredirector/internal/ports"
	"portredirector/internal/socket"
)

// timeout limits the wait for a reply. It is less than a second, after which the kernel
// repeats the SYN. A repeated SYN could reopen a connection that was just reset.
const timeout = 800 * time.Millisecond

// A Path describes the dial that a probe imitates.
type Path struct {
	Protocol ports.Protocol
	From     netip.AddrPort // the claimed source
	To       netip.AddrPort // the service
	Mark     uint32         // of the socket's packets
}

// Result is the outcome of a probe.
type Result struct {
	Path

	// Sent reports whether the kernel had a route to the service.
	Sent bool
	// Arrived reports whether a reply reached the probe's socket: a SYN-ACK, an RST, a
	// datagram, or an ICMP port unreachable.
	Arrived bool
	// Err is the error of the socket: ECONNREFUSED after an RST or an ICMP port unreachable,
	// another error without a route or after another ICMP error, nil otherwise.
	Err error
	// Flow is the entry of connection tracking, or nil. After an RST there is none.
	Flow *Flow
}

// Send sends a probe and waits for a reply or a timeout. It returns an error if this
// process cannot send probes at all.
func Send(ctx context.Context, path Path) (Result, error) {
	r := Result{Path: path}
	fd, err := path.begin()
	if routeless(err) {
		r.Err = err
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("probe %s: %w", path.To, err)
	}
	r.Sent = true
	err = r.await(ctx, fd)
	r.Flow = path.flow()
	r.look(fd) // connection tracking may have seen a reply since, on its way here
	path.end(fd, r)
	return r, err
}

// begin opens the socket of a probe and sends.
func (p Path) begin() (fd int, err error) {
	if p.Protocol == ports.UDP {
		return p.datagram()
	}
	return socket.Connect(p.From, p.To, net.KeepAliveConfig{}, p.halfOpen)
}

// end closes the socket, and removes the traces of the probe in the service and conntrack.
func (p Path) end(fd int, r Result) {
	switch {
	case p.Protocol == ports.UDP:
		socket.Close(fd)
		p.forget()
	case r.Err == nil:
		p.reset(fd)
	default:
		socket.Close(fd)
	}
}

// routeless reports whether connect(2) failed for lack of a route.
func routeless(err error) bool {
	return errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.EACCES)
}

// await waits until a reply has arrived or the socket has failed.
func (r *Result) await(ctx context.Context, fd int) error {
	end := time.NewTimer(timeout)
	defer end.Stop()
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 20*time.Millisecond) {
		if r.look(fd); r.Arrived || r.Err != nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			return nil
		case <-time.After(wait):
		}
	}
}

// look updates the result from the state of the socket.
func (r *Result) look(fd int) {
	if r.Arrived || r.Err != nil {
		return
	}
	if errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && errno != 0 {
		r.Err = syscall.Errno(errno)
		r.Arrived = errors.Is(r.Err, syscall.ECONNREFUSED)
		return
	}
	r.Arrived = dropped(fd)
}

// prepare sets the socket options of a transparent dial.
func (p Path) prepare(fd int) error {
	level, transparent := unix.IPPROTO_IP, unix.IP_TRANSPARENT
	if p.To.Addr().Is6() {
		level, transparent = unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT
	}
	return set(fd, []option{
		{level, transparent, 1},
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1},
		{unix.SOL_SOCKET, unix.SO_MARK, int(p.Mark)},
	})
}

// option is a socket option of type int.
type option struct{ level, name, value int }

func set(fd int, options []option) error {
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}
