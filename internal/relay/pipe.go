package relay

import (
	"golang.org/x/sys/unix"
)

const (
	// pipeSize is what a pipe should hold. Refused (for a user without
	// privileges beyond /proc/sys/fs/pipe-user-pages-soft, pipe(7)), it stays at
	// the kernel's default and is only slower.
	pipeSize = 1 << 20
	// leastPipe is what it must hold to be faster than the loop's buffer. The
	// kernel gives such a user two pages in the end.
	leastPipe = 32 << 10
	// keptPipes is how many unused pipes a loop keeps.
	keptPipes = 16
	// maxPipes is how many a loop has at most: they are descriptors, two each.
	// Who gets none reads and writes.
	maxPipes = 512
)

// pipe is a pipe(2) that a direction has borrowed. Invariant: a pipe in the
// pool is empty.
type pipe struct {
	r, w int
	n    int // bytes in it
}

// pipes are the pipes of one loop.
type pipes struct {
	free []*pipe
	made int
}

// borrow returns an empty pipe, or nil if there is none to be had.
func (ps *pipes) borrow() *pipe {
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
	if size < leastPipe {
		ps.discard(p)
		return nil
	}
	return p
}

// giveBack takes a pipe back. One that is not empty is closed, and with it
// what is in it.
func (ps *pipes) giveBack(p *pipe) {
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
