package socket

import (
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Detach takes a socket out of package net, or what [File] returns out of the runtime's
// poller: it is closed, also with an error, and its socket goes on as the descriptor that
// is returned.
func Detach(c interface {
	syscall.Conn
	io.Closer
},
) (fd int, err error) {
	defer func() { _ = c.Close() }()
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd = -1
	if cerr := raw.Control(func(s uintptr) {
		_ = unix.SetsockoptInt(int(s), unix.SOL_SOCKET, unix.SO_OOBINLINE, 1) // as Listen and Connect do
		fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0)
	}); cerr != nil {
		return -1, cerr
	}
	if err != nil {
		return -1, os.NewSyscallError("dup", err)
	}
	return fd, nil
}

// File has the runtime wait for a socket, which keeps its options, unlike those of
// package net. [Detach] ends it; or else the file is to be closed.
func File(fd int) *os.File { return os.NewFile(uintptr(fd), "tcp") }

// Conn takes a socket into package net. The descriptor is given up, also with an
// error.
func Conn(fd int) (*net.TCPConn, error) {
	f := os.NewFile(uintptr(fd), "tcp")
	defer func() { _ = f.Close() }()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	t, ok := c.(*net.TCPConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("descriptor %d is no TCP socket", fd)
	}
	return t, nil
}

func interfaceIndex(name string) uint32 {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return 0
	}
	return uint32(i.Index)
}
