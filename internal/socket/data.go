package socket

import (
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// recv(2) and send(2) skip what read(2) and write(2) do for files. That matters, because these
// calls are made for every few bytes.

// Recv reads once. b must not be empty.
func Recv(fd int, b []byte) (n int, errno unix.Errno) {
	return call(unix.SYS_RECVFROM, fd, b, unix.MSG_DONTWAIT)
}

// SendSome writes once, as much as the socket has room for. b must not be empty.
func SendSome(fd int, b []byte) (n int, errno unix.Errno) {
	return call(unix.SYS_SENDTO, fd, b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// SendMore is SendSome for bytes that others follow at once. The kernel sends them together
// (MSG_MORE, send(2)).
func SendMore(fd int, b []byte) (n int, errno unix.Errno) {
	return call(unix.SYS_SENDTO, fd, b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL|unix.MSG_MORE)
}

func call(trap uintptr, fd int, b []byte, flags uintptr) (int, unix.Errno) {
	for {
		r, _, errno := unix.RawSyscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), flags, 0, 0)
		if errno != unix.EINTR {
			return int(r), errno
		}
	}
}

// Send writes all of b, which must fit into the socket's buffer.
func Send(fd int, b []byte) error {
	n, errno := SendSome(fd, b)
	switch {
	case errno != 0:
		return os.NewSyscallError("send", errno)
	case n != len(b):
		return io.ErrShortWrite
	}
	return nil
}
