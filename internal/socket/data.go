package socket

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Send writes b, which must be short enough for the socket's buffer.
func Send(fd int, b []byte) error {
	n, err := unix.SendmsgN(fd, b, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	if err == nil && n != len(b) {
		err = io.ErrShortWrite
	}
	return os.NewSyscallError("send", err)
}
