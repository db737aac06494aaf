package socket

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// waitSlice is the time after which a wait checks its context.
const waitSlice = 50 * time.Millisecond

// Wait waits until a socket of [Connect] is connected or has failed. It blocks a thread,
// so it is for callers outside of the event loops.
func Wait(ctx context.Context, fd int) error {
	if err := wait(ctx, fd, unix.POLLOUT); err != nil {
		return err
	}
	return Error(fd)
}

// WaitReadable waits until a socket has something to read, or has failed. It blocks a
// thread, as Wait does.
func WaitReadable(ctx context.Context, fd int) error { return wait(ctx, fd, unix.POLLIN) }

func wait(ctx context.Context, fd int, events int16) error {
	poll := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := unix.Poll(poll, int(waitSlice/time.Millisecond))
		if err != nil && err != unix.EINTR {
			return os.NewSyscallError("poll", err)
		}
		if n > 0 {
			return nil
		}
	}
}

// WaitAny waits until any of the sockets is connected or has failed, at most for d. It
// returns their indices. It blocks a thread.
func WaitAny(fds []int, d time.Duration) (done []int, err error) {
	poll := make([]unix.PollFd, len(fds))
	for i, fd := range fds {
		poll[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLOUT}
	}
	if _, err := unix.Poll(poll, int(d/time.Millisecond)); err != nil && err != unix.EINTR {
		return nil, os.NewSyscallError("poll", err)
	}
	for i := range poll {
		if poll[i].Revents != 0 {
			done = append(done, i)
		}
	}
	return done, nil
}

// Error returns and clears the pending error of a socket; nil if there is none.
func Error(fd int) error {
	errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if errno != 0 {
		return unix.Errno(errno)
	}
	return nil
}
