package relay

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of a loop beside those in package socket. None of them waits, so the
// scheduler need not know of them.

// splice moves up to n bytes between a socket and a pipe, whichever is which.
func splice(from, to, n int) (int, unix.Errno) {
	for {
		r, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n),
			unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if errno != unix.EINTR {
			return int(r), errno
		}
	}
}

// pollEvents is epoll_wait(2) without a word to the scheduler: it takes the events
// that are there or, if wait is set, waits for some, or for a signal.
func pollEvents(epoll int, events []unix.EpollEvent, wait bool) int {
	timeout := uintptr(0)
	if wait {
		timeout = ^uintptr(0)
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), timeout, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}
