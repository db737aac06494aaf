package relay

import (
	"os"

	"golang.org/x/sys/unix"
)

// flow is a pair under way in a loop.
type flow struct {
	Meter

	side   [2]side
	dir    [2]direction // dir[d] carries from side[d] to side[1-d]
	done   func(Result)
	active int64 // when it last carried something, ms on the loop's clock

	answer   func(byte) error // asked about the first byte from the dialled side; nil when that has come
	answerBy int64            // when it is too late for that, ms on the loop's clock; 0 is never

	number int32 // in the loop
	queued bool  // is in the loop's line
	ended  bool
}

// side is one socket and what is known of it. With edge-triggered epoll that
// is only told once, so it is kept until a call says otherwise.
type side struct {
	fd       int
	readable bool // a read may give something
	writable bool // a write may take something
	ending   bool // FIN has come, behind what is still to be read
	failed   bool // there is an error to be asked for
	urgent   bool // urgent data has come, at which reads stop short

	suspect int64 // since when something was to be acknowledged, ms on the loop's clock; 0 is not, see dead.go
}

// note takes in an event (epoll_ctl(2)).
func (s *side) note(events uint32) {
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP) != 0 {
		s.readable = true
	}
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP) != 0 {
		s.ending = true
	}
	if events&unix.EPOLLOUT != 0 {
		s.writable = true
	}
	if events&unix.EPOLLPRI != 0 {
		s.readable, s.urgent = true, true
	}
	if events&unix.EPOLLERR != 0 {
		s.failed = true
	}
}

// step moves both directions on, as far as the sockets or its turn allow. It
// reports whether there is more to do without waiting.
func (f *flow) step(l *loop) (more bool) {
	if f.ended {
		return false
	}
	// The answer comes before the reset that may follow it.
	if f.answer != nil {
		if err := f.readAnswer(l); err != nil {
			l.end(f, Refused, err)
			return false
		}
	}
	for s := range f.side {
		if !f.side[s].failed {
			continue
		}
		f.side[s].failed = false
		if errno, err := unix.GetsockoptInt(f.side[s].fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && errno != 0 {
			l.end(f, resetBy(s), os.NewSyscallError("read", unix.Errno(errno)))
			return false
		}
	}
	for d := range f.dir {
		if d == dialled && f.answer != nil {
			continue // nothing goes down before the answer
		}
		again, broken, err := f.pump(l, d)
		if err != nil {
			f.breakDown(l, broken, err)
			return false
		}
		more = more || again
	}
	if f.dir[0].finished && f.dir[1].finished {
		// The last acknowledgement changes the state of the socket, which is
		// an event (tcp_rcv_state_process in the kernel's tcp_input.c).
		if !undelivered(f.side[accepted].fd) && !undelivered(f.side[dialled].fd) {
			l.end(f, Finished, nil)
		}
		return false
	}
	return more
}

// breakDown ends the flow after an error on one side. A link that refused may
// be broken before its answer was read, which tells more.
func (f *flow) breakDown(l *loop, broken int, err error) {
	if f.answer != nil && broken == dialled {
		f.side[dialled].readable = true
		if err := f.readAnswer(l); err != nil {
			l.end(f, Refused, err)
			return
		}
	}
	l.end(f, resetBy(broken), err)
}

// readAnswer takes in the one byte that is not relayed, when it is there.
func (f *flow) readAnswer(l *loop) error {
	src := &f.side[dialled]
	if !src.readable {
		return nil
	}
	var b [1]byte
	n, err := src.read(b[:])
	switch {
	case err != nil:
		return err
	case n == 0 && !src.readable:
		return nil
	case n == 0:
		return errEndsUnanswered
	}
	err = f.answer(b[0])
	f.answered(l)
	return err
}

// answered notes that no answer is waited for any more.
func (f *flow) answered(l *loop) {
	if f.answerBy > 0 {
		f.answerBy = 0
		l.awaiting.Add(-1)
	}
	f.answer = nil
}

// halfClosed reports whether one direction has ended.
func (f *flow) halfClosed() bool { return f.dir[0].finished || f.dir[1].finished }

// close gives back what the flow holds.
func (f *flow) close(l *loop, reset bool) {
	for d := range f.dir {
		if p := f.dir[d].pipe; p != nil {
			l.pipes.giveBack(p)
		}
		f.dir[d] = direction{finished: true}
	}
	for s := range f.side {
		closeSocket(f.side[s].fd, reset)
	}
}

// direction is one way of a flow.
type direction struct {
	// What was read and not written yet is in rest or in pipe, never in both.
	rest []byte
	pipe *pipe

	large    uint8 // reads in a row that brought much
	small    uint8 // splices in a row that brought little
	bulk     bool  // splice instead of read and write
	eof      bool  // the source has ended
	finished bool  // and that was passed on
}

const (
	// turnBytes bounds what one direction moves per turn, so that a bulk
	// stream does not keep the loop from others. It is what a pipe holds:
	// splices of a quarter of it took a fifth more processor time per byte.
	turnBytes = pipeSize
	// bulkRead is a read that speaks for splice, bulkAfter how many it takes.
	// After as many splices of less it goes back.
	bulkRead  = 16 << 10
	bulkAfter = 3
)

// pump moves direction d on until its source has no more, its destination
// takes no more, or its turn is over; only then more is true. An error comes
// with the side that broke.
func (f *flow) pump(l *loop, d int) (more bool, broken int, err error) {
	dir, src, dst := &f.dir[d], &f.side[d], &f.side[1-d]
	moved := 0
	defer func() {
		if moved > 0 {
			f.moved[d].Add(int64(moved))
			f.active = l.now
			l.suspect(dst)
		}
	}()
	for !dir.finished {
		switch {
		case dir.pipe != nil && dir.pipe.n > 0:
			if !dst.writable {
				return false, 0, nil
			}
			n, err := dir.drain(dst)
			moved += n
			if err != nil {
				return false, 1 - d, err
			}
		case len(dir.rest) > 0:
			if !dst.writable {
				return false, 0, nil
			}
			n, err := dst.write(dir.rest)
			moved += n
			if err != nil {
				return false, 1 - d, err
			}
			if dir.rest = dir.rest[n:]; len(dir.rest) == 0 {
				dir.rest = nil
			}
		case dir.eof:
			if err := unix.Shutdown(dst.fd, unix.SHUT_WR); err != nil {
				return false, 1 - d, os.NewSyscallError("shutdown", err)
			}
			dir.finished = true
		case moved >= turnBytes:
			return true, 0, nil
		case !src.readable:
			dir.giveBack(l)
			return false, 0, nil
		case dir.bulk && !src.urgent:
			if err := dir.fill(l, src); err != nil {
				return false, d, err
			}
		default:
			n, writing, err := dir.carry(l, src, dst)
			moved += n
			if err != nil && writing {
				return false, 1 - d, err
			}
			if err != nil {
				return false, d, err
			}
		}
	}
	dir.giveBack(l)
	return false, 0, nil
}

// carry reads once, through the loop's buffer, and writes what it read. What
// the destination does not take is kept in rest. With an error, writing tells
// that it is the destination's.
func (dir *direction) carry(l *loop, src, dst *side) (moved int, writing bool, err error) {
	n, err := src.read(l.buf)
	if err != nil || !src.readable && n == 0 {
		return 0, false, err
	}
	if n == 0 {
		dir.eof = true
		return 0, false, nil
	}
	if n >= bulkRead {
		if dir.large++; dir.large >= bulkAfter {
			dir.bulk, dir.large, dir.small = true, 0, 0
		}
	} else {
		dir.large = 0
	}
	w := 0
	if dst.writable {
		if w, err = dst.write(l.buf[:n]); err != nil {
			return w, true, err
		}
	}
	if w < n {
		dir.rest = append([]byte(nil), l.buf[w:n]...)
	}
	return w, false, nil
}

// fill moves what the source has into a pipe, without copying it.
func (dir *direction) fill(l *loop, src *side) error {
	if dir.pipe == nil {
		if dir.pipe = l.pipes.borrow(); dir.pipe == nil {
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
		dir.giveBack(l)
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

// drain moves what is in the pipe to the destination.
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
	return n, nil
}

// giveBack returns the direction's pipe, if it is empty.
func (dir *direction) giveBack(l *loop) {
	if dir.pipe != nil && dir.pipe.n == 0 {
		l.pipes.giveBack(dir.pipe)
		dir.pipe = nil
	}
}

// add counts bytes into the pipe; a pipe that was given back has none.
func (p *pipe) add(n int) {
	if p != nil && n > 0 {
		p.n += n
	}
}

// read reads once. At the end of what is there it makes the side unreadable:
// a short read is the end too, unless FIN is behind it, for which there will
// be no further event, or urgent data, which splits what is there.
func (s *side) read(b []byte) (int, error) {
	for {
		n, err := unix.Read(s.fd, b)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			s.readable = false
			return 0, nil
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n > 0 && n < len(b) && !s.ending && !s.urgent:
			s.readable = false
		}
		return n, nil
	}
}

// write writes once, and makes the side unwritable if it did not take all.
func (s *side) write(b []byte) (int, error) {
	for {
		n, err := unix.Write(s.fd, b)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			s.writable = false
			return 0, nil
		case err != nil:
			return 0, os.NewSyscallError("write", err)
		case n < len(b):
			s.writable = false
		}
		return n, nil
	}
}

// splice moves up to n bytes between a socket and a pipe, whichever is which.
func splice(from, to, n int) (int, unix.Errno) {
	for {
		m, err := unix.Splice(from, nil, to, nil, n, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if errno, _ := err.(unix.Errno); errno != unix.EINTR { //nolint:errorlint // a system call's own
			return int(m), errno
		}
	}
}
