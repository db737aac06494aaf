package relay

import (
	"os"

	"golang.org/x/sys/unix"
)

const (
	// bulkRead is the size of a read, or splice, that counts as much.
	bulkRead = 16 << 10
	// bulkAfter is the number of reads in a row that brought much after which a direction
	// splices, and of splices that brought little after which it reads again.
	bulkAfter = 3
)

// read reads once, and decides by the size of reads whether the direction is bulk.
func (dir *direction) read(src *side, b []byte) (int, error) {
	n, err := src.read(b)
	switch {
	case err != nil || !src.readable && n == 0:
		return 0, err
	case n == 0:
		dir.eof = true
	case n < bulkRead:
		dir.large = 0
	default:
		if dir.large++; dir.large >= bulkAfter {
			dir.bulk, dir.large, dir.small = true, 0, 0
		}
	}
	return n, nil
}

// fill moves bytes from the source into a pipe, without copying them.
func (dir *direction) fill(w *workspace, src *side) error {
	if dir.pipe == nil {
		if dir.pipe = w.pipes.get(); dir.pipe == nil {
			dir.bulk = false
			return nil
		}
	}
	n, errno := splice(src.fd, dir.pipe.w, turnBytes)
	switch {
	case errno == unix.EAGAIN:
		src.readable = false
	case errno == unix.EINVAL: // not a socket that can be spliced
		dir.bulk = false
		dir.putPipe(w)
	case errno != 0:
		return os.NewSyscallError("splice", errno)
	case n == 0:
		// The end, or urgent data of which no event has come yet: splice(2)
		// stops at both. A read can tell.
		dir.bulk = false
	case n >= bulkRead:
		dir.small = 0
	default:
		if dir.small++; dir.small >= bulkAfter {
			dir.bulk = false
		}
	}
	dir.pipe.add(n)
	return nil
}

// drain moves bytes from the pipe to the destination.
func (dir *direction) drain(dst *side) (moved int, err error) {
	n, errno := splice(dir.pipe.r, dst.fd, dir.pipe.n)
	if errno == unix.EAGAIN {
		dst.writable = false
		return 0, nil
	}
	if errno != 0 {
		return 0, os.NewSyscallError("splice", errno)
	}
	dir.pipe.n -= n
	dst.wrote = true
	return n, nil
}

// putPipe returns the direction's pipe to the pool, if it is empty.
func (dir *direction) putPipe(w *workspace) {
	if dir.pipe != nil && dir.pipe.n == 0 {
		w.pipes.put(dir.pipe)
		dir.pipe = nil
	}
}
