package relay

import (
	"golang.org/x/sys/unix"
)

const (
	// pipeSize is the capacity that is asked for. If the kernel refuses it (to a user without
	// privileges beyond /proc/sys/fs/pipe-user-pages-soft, pipe(7)), the pipe keeps
	// the kernel's default and is only slower.
	pipeSize = 1 << 20
	// minPipe is the least capacity with which a pipe is faster than the loop's buffer.
	// The kernel gives such a user two pages in the end.
	minPipe = 32 << 10
	// keptPipes is the number of unused pipes that a loop keeps.
	keptPipes = 16
	// maxPipes bounds the pipes of a loop, because each is two descriptors. A direction
	// without a pipe reads and writes.
	maxPipes = 512
)

// pipe is a pipe(2) that a direction has borrowed. A pipe in the pool is empty.
type pipe struct {
	r, w   int
	n      int  // bytes in it
	framed bool // the head of their frame was written
}

// filled reports whether bytes are in the pipe. A nil pipe has none.
func (p *pipe) filled() bool { return p != nil && p.n > 0 }

// pipes is the pool of one loop.
type pipes struct {
	free []*pipe
	made int
}

// get returns an empty pipe, or nil if there is none to be had.
func (ps *pipes) get() *pipe {
	if last := len(ps.free) - 1; last >= 0 {
		p := ps.free[last]
		ps.free = ps.free[:last]
		return p
	}
	if ps.made == maxPipes {
		return nil
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil
	}
	ps.made++
	p := &pipe{r: fds[0], w: fds[1]}
	size, err := unix.FcntlInt(uintptr(p.w), unix.F_SETPIPE_SZ, pipeSize)
	if err != nil {
		size, _ = unix.FcntlInt(uintptr(p.w), unix.F_GETPIPE_SZ, 0)
	}
	if size < minPipe {
		ps.discard(p)
		return nil
	}
	return p
}

// put returns a pipe to the pool. A pipe that is not empty is closed.
func (ps *pipes) put(p *pipe) {
	if p.n == 0 && len(ps.free) < keptPipes {
		ps.free = append(ps.free, p)
		return
	}
	ps.discard(p)
}

// discard closes a pipe.
func (ps *pipes) discard(p *pipe) {
	ps.made--
	_ = unix.Close(p.r)
	_ = unix.Close(p.w)
}

// close closes the unused pipes.
func (ps *pipes) close() {
	for _, p := range ps.free {
		ps.discard(p)
	}
	ps.free = nil
}

// splice moves up to n bytes between a socket and a pipe, in either direction. It never
// blocks, so the scheduler need not know of it.
func splice(from, to, n int) (int, unix.Errno) {
	for {
		r, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n),
			unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if errno != unix.EINTR {
			return int(r), errno
		}
	}
}
