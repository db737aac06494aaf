package socket

import (
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Detach takes a socket out of package net, or out of the runtime's poller if c comes
// from [File]. It returns a descriptor of the socket and closes c, also with an error.
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
		if err = resetOnClose(int(s), true); err == nil {
			fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0)
			err = os.NewSyscallError("dup", err)
		}
	}); cerr != nil {
		return -1, cerr
	}
	return fd, err
}

// File gives a socket to the runtime's poller, for code that blocks on a goroutine.
// Unlike Conn it keeps the socket's options, except that closing the file is an orderly close.
// [Detach] takes the socket back.
func File(fd int) *os.File {
	_ = resetOnClose(fd, false)
	return os.NewFile(uintptr(fd), "tcp")
}

// Conn gives a socket to package net. It takes over the descriptor, also with an error.
// Closing the connection is an orderly close.
func Conn(fd int) (*net.TCPConn, error) {
	f := File(fd)
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
