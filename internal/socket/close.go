package socket

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A socket of this package is closed by RST unless [Close] closes it. So the kernel
// sends RST for the sockets that a killed process leaves behind, and a stream that was
// cut never looks whole. SO_LINGER with a time of zero does that (socket(7)); an
// accepted socket inherits it from its listener.
//
// With that option close(2) discards what is not acknowledged, a FIN included.
// Therefore an orderly close has to remove it first.

// Close closes a socket in order: the kernel delivers what was written, and then FIN.
func Close(fd int) {
	_ = resetOnClose(fd, false)
	Release(fd)
}

// Reset closes a socket by RST and discards what is not sent.
func Reset(fd int) {
	_ = resetOnClose(fd, true)
	Release(fd)
}

// CloseWrite half-closes a connection: it sends FIN.
func CloseWrite(fd int) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0); errno != 0 {
		return os.NewSyscallError("shutdown", errno)
	}
	return nil
}

// Release closes a socket for which the kernel has nothing left to do: its connection was
// reset, or has ended in both directions and all is acknowledged. A socket with
// anything left is reset. It saves Close and Reset a system call.
func Release(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// resetOnClose determines whether close(2) of a socket sends RST.
func resetOnClose(fd int, reset bool) error {
	var l unix.Linger
	if reset {
		l.Onoff = 1
	}
	if errno := setsockopt(fd, unix.SOL_SOCKET, unix.SO_LINGER, unsafe.Pointer(&l), unsafe.Sizeof(l)); errno != 0 {
		return fmt.Errorf("set SO_LINGER: %w", errno)
	}
	return nil
}
