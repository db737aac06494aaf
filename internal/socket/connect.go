package socket

import (
	"net"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Connect starts to connect a new socket to an address, from source unless that is the
// zero value. The socket is writable once it is connected or has failed (connect(2),
// EINPROGRESS). prepare, if set, is called before bind(2) and connect(2).
func Connect(source, to netip.AddrPort, alive net.KeepAliveConfig, prepare func(fd int) error) (fd int, err error) {
	family := unix.AF_INET6
	if to.Addr().Is4() {
		family = unix.AF_INET
	}
	r, _, errno := unix.RawSyscall(unix.SYS_SOCKET, uintptr(family), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if errno != 0 {
		return -1, os.NewSyscallError("socket", errno)
	}
	fd = int(r)
	defer func() {
		if err != nil {
			Close(fd)
			fd = -1
		}
	}()
	if err := setCommon(fd, alive); err != nil {
		return fd, err
	}
	if prepare != nil {
		if err := prepare(fd); err != nil {
			return fd, err
		}
	}
	if source.IsValid() {
		if errno := withAddr(unix.SYS_BIND, fd, source); errno != 0 {
			return fd, os.NewSyscallError("bind", errno)
		}
	}
	if errno := withAddr(unix.SYS_CONNECT, fd, to); errno != 0 && errno != unix.EINPROGRESS {
		return fd, os.NewSyscallError("connect", errno)
	}
	return fd, nil
}

// withAddr calls bind(2) or connect(2) with an address.
func withAddr(trap uintptr, fd int, at netip.AddrPort) unix.Errno {
	a, n := NewSockaddr(at)
	_, _, errno := unix.RawSyscall(trap, uintptr(fd), uintptr(unsafe.Pointer(&a)), n)
	return errno
}

// common has the options of all sockets: no Nagle delay, urgent data among other bytes
// (RFC 6093).
var common = []option{
	{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
	{"SO_OOBINLINE", unix.SOL_SOCKET, unix.SO_OOBINLINE, 1},
}

// setCommon sets the common options, death as a reset, and keepalive unless c is its zero
// value.
func setCommon(fd int, c net.KeepAliveConfig) error {
	err := set(fd, common...)
	if err == nil {
		err = resetOnClose(fd, true)
	}
	if err != nil || !c.Enable {
		return err
	}
	return setKeepAlive(fd, c)
}

func setKeepAlive(fd int, c net.KeepAliveConfig) error {
	return set(fd,
		option{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		option{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(c.Idle / time.Second)},
		option{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(c.Interval / time.Second)},
		option{"TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, c.Count})
}
