package socket

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// SetCongestion sets the congestion control of a socket, and of all that a listener
// accepts from then on. The kernel loads a module for a process that has CAP_NET_ADMIN.
// The error is ENOENT if there is no such algorithm, and EPERM if only CAP_NET_ADMIN may
// use it (net.ipv4.tcp_allowed_congestion_control).
func SetCongestion(fd int, algorithm string) error {
	if err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, algorithm); err != nil {
		return fmt.Errorf("set TCP_CONGESTION: %w", err)
	}
	return nil
}

// Congestion returns the congestion control of a socket.
func Congestion(fd int) (algorithm string, err error) {
	algorithm, err = unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	return strings.TrimRight(algorithm, "\x00"), os.NewSyscallError("getsockopt", err)
}

// TryCongestion sets an algorithm on a socket of its own, and returns the algorithm that the
// socket has then. With "" that is the system's.
func TryCongestion(algorithm string) (got string, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", os.NewSyscallError("socket", err)
	}
	defer Close(fd)
	if algorithm != "" {
		if err := SetCongestion(fd, algorithm); err != nil {
			return "", err
		}
	}
	return Congestion(fd)
}
