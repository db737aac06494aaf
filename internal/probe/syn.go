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

	"portredirector/internal/socket"
)

// timeout bounds the wait for a reply. The kernel repeats a SYN after a second.
const timeout = time.Second

// A Path describes the dial that a probe stands for.
type Path struct {
	From netip.AddrPort // the claimed source
	To   netip.AddrPort // the service
	Mark uint32         // of the socket's packets
}

// Result tells what became of a probe.
type Result struct {
	Path

	// Sent reports whether the kernel had a route to the service.
	Sent bool
	// Arrived reports whether a SYN-ACK or an RST reached the probe's socket.
	Arrived bool
	// Err is the error of the socket: ECONNREFUSED after an RST, another one for
	// lack of a route or after an ICMP error, nil otherwise.
	Err error
	// Flow is the entry of connection tracking, nil if there is none. After an RST
	// there is none.
	Flow *Flow
}

// Send sends a probe and waits until a reply has arrived, or for a second.
// The error says why no probe could be sent by this process at all.
func Send(ctx context.Context, path Path) (Result, error) {
	r := Result{Path: path}
	fd, err := socket.Connect(path.From, path.To, net.KeepAliveConfig{}, path.halfOpen)
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
	if r.Err == nil {
		path.reset(fd)
	} else {
		socket.Close(fd)
	}
	return r, err
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

// look asks the socket for what has arrived.
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

// halfOpen prepares the socket of a probe.
func (p Path) halfOpen(fd int) error {
	if err := p.prepare(fd); err != nil {
		return err
	}
	// Let only segments with RST in: they end the socket. All others are counted.
	const flags, rst, all = 13, 0x4, 0xffffffff // of struct tcphdr
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: flags},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, Jf: 1, K: rst},
		{Code: unix.BPF_RET | unix.BPF_K, K: all},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]} //nolint:gosec // 4
	return os.NewSyscallError("setsockopt", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program))
}

// prepare sets what a transparent dial needs.
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

// option is one of setsockopt(2).
type option struct{ level, name, value int }

func set(fd int, options []option) error {
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}
