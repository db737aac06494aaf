package relay

import (
	"os"

	"golang.org/x/sys/unix"

	"portredirector/internal/socket"
	"portredirector/internal/wire"
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
	n, eof, err := src.read(b)
	if eof {
		dir.eof = true
	}
	switch {
	case err != nil || n == 0:
		return 0, err
	case dir.bulk():
	case n < bulkRead:
		dir.large = 0
	default:
		dir.large++
		dir.small = 0
	}
	return n, nil
}

// bulk reports whether the direction splices instead of reading and writing.
func (dir *direction) bulk() bool { return dir.large >= bulkAfter }

// endBulk makes the direction read and write again.
func (dir *direction) endBulk() { dir.large = 0 }

// fill moves bytes from the source into a pipe, without copying them.
func (dir *direction) fill(w *workspace, src *side) (moved int, err error) {
	if dir.pipe == nil {
		if dir.pipe = w.pipes.get(); dir.pipe == nil {
			dir.endBulk()
			return 0, nil
		}
	}
	most := turnBytes
	if src.frames != nil {
		most = min(most, src.frames.in.Left())
	}
	n, errno := splice(int(src.fd), dir.pipe.w, most)
	switch {
	case errno == unix.EAGAIN:
		src.readable = false
	case errno == unix.EINVAL: // not a socket that can be spliced
		dir.endBulk()
		dir.putPipe(w)
	case errno != 0:
		return 0, os.NewSyscallError("splice", errno)
	case n == 0:
		// The end, or urgent data of which no event has come yet: splice(2)
		// stops at both. A read can tell.
		dir.endBulk()
	case n >= bulkRead:
		dir.small = 0
	default:
		if dir.small++; dir.small >= bulkAfter {
			dir.endBulk()
		}
	}
	if n <= 0 {
		return 0, nil
	}
	dir.pipe.n += n
	if src.frames != nil {
		src.frames.in.Skip(n)
	}
	return n, nil
}

// drain moves bytes from the pipe to the destination. To a link the whole content of the
// pipe is one data frame.
func (dir *direction) drain(dst *side) error {
	p := dir.pipe
	if dst.frames != nil && !p.framed {
		return dir.beginFrame(dst)
	}
	n, errno := splice(p.r, int(dst.fd), p.n)
	if errno == unix.EAGAIN {
		dst.writable = false
		return nil
	}
	if errno != 0 {
		return os.NewSyscallError("splice", errno)
	}
	p.n -= n
	p.framed = p.n > 0
	dst.wrote, dir.sent = true, true
	return nil
}

// beginFrame writes the head of a frame for the content of the pipe. The kernel holds it
// back until the content follows.
func (dir *direction) beginFrame(dst *side) error {
	var head [wire.FrameHead]byte
	wire.PutHead(head[:], wire.KindData, dir.pipe.n)
	n, errno := socket.SendMore(int(dst.fd), head[:])
	switch {
	case errno == unix.EAGAIN:
		dst.writable = false
		return nil
	case errno != 0:
		return os.NewSyscallError("send", errno)
	case n < len(head):
		dir.rest = append([]byte(nil), head[n:]...)
	}
	dir.pipe.framed = true
	return nil
}

// putPipe returns the direction's pipe to the pool, if it is empty.
func (dir *direction) putPipe(w *workspace) {
	if dir.pipe != nil && dir.pipe.n == 0 {
		w.pipes.put(dir.pipe)
		dir.pipe = nil
	}
}
