package relay

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"portredirector/internal/socket"
)

// flow is a pair under way in a loop, or what is to become one.
type flow struct {
	meter *Meter

	side    [2]side
	dir     [2]direction // dir[d] carries from side[d] to side[1-d]
	opening *opening     // what is left to be done before bytes go both ways; nil if nothing is
	done    func(Result)
	active  int64 // when it last carried something, ms on the loop's clock

	number int32 // in the loop
	queued bool  // is in the loop's line
	ended  bool
}

// side is one socket and what is known of it. With edge-triggered epoll that
// is only told once, so it is kept until a call says otherwise.
type side struct {
	fd       int
	layer    Layer // between it and its bytes; nil is nothing
	watched  bool  // the loop is told of its events
	awaited  bool  // and when a write may take something
	readable bool  // a read may give something
	writable bool  // a write may take something
	ending   bool  // FIN has come, behind what is still to be read
	failed   bool  // there is an error to be asked for
	broken   bool  // the connection is no more, and needs no reset
	acked    bool  // it has ended in both directions, and all is acknowledged
	owes     bool  // something was sent in this step that is to be acknowledged
	urgent   bool  // urgent data has come, at which reads stop short
	closing  bool  // the layer was told of the end

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
	if f.opening != nil && !f.open(l) {
		return false
	}
	for s := range f.side {
		if !f.side[s].failed {
			continue
		}
		// What came before the error goes on first; asking for the error would
		// make the rest look like an end.
		if s == accepted || f.opening == nil {
			again, broken, err := f.pump(l, s)
			if err != nil {
				f.breakDown(l, broken, err)
				return false
			}
			if again {
				return true
			}
		}
		f.side[s].failed = false
		if err := socket.Error(f.side[s].fd); err != nil {
			f.side[s].broken = true
			l.end(f, resetBy(s), os.NewSyscallError("recv", err))
			return false
		}
	}
	for d := range f.dir {
		if d == dialed && f.opening != nil {
			continue // nothing goes down before the answer
		}
		again, broken, err := f.pump(l, d)
		if err != nil {
			f.breakDown(l, broken, err)
			return false
		}
		more = more || again
		if to := 1 - d; !f.side[to].writable && !f.side[to].awaited {
			if err := l.await(f, to); err != nil {
				l.end(f, Failed, err)
				return false
			}
		}
	}
	if f.dir[0].finished && f.dir[1].finished {
		// The last acknowledgement changes the state of the socket, which is
		// an event (tcp_rcv_state_process in the kernel's tcp_input.c).
		if !f.side[accepted].undelivered() && !f.side[dialed].undelivered() {
			l.end(f, Finished, nil)
		}
		return false
	}
	return more
}

// breakDown ends the flow after an error on one side. A link that refused may
// be broken before its answer was read, which tells more.
func (f *flow) breakDown(l *loop, broken int, err error) {
	if f.opening != nil && broken == dialed {
		f.side[dialed].readable = true
		if !f.readAnswer(l) {
			return
		}
	}
	f.broke(l, broken, err)
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
		f.side[s].close(!reset)
	}
}

// direction is one way of a flow.
type direction struct {
	// What was read and not written yet is in rest or in pipe, never in both.
	rest  []byte
	pipe  *pipe
	extra int // bytes at the head of rest that are no payload

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
	// turnReads bounds how often it reads for that: who sends single bytes has its turns,
	// too.
	turnReads = 64
	// bulkRead is a read that speaks for splice, bulkAfter how many it takes.
	// After as many splices of less it goes back.
	bulkRead  = 16 << 10
	bulkAfter = 3
	// scantRest is a rest that is written together with what comes next.
	scantRest = 1 << 10
)

// pump moves direction d on until its source has no more, its destination
// takes no more, or its turn is over; only then more is true. An error comes
// with the side that broke.
func (f *flow) pump(l *loop, d int) (more bool, broken int, err error) {
	dir, src, dst := &f.dir[d], &f.side[d], &f.side[1-d]
	moved, reads := 0, 0
	defer func() {
		if moved > 0 {
			f.meter.moved[d].Add(int64(moved))
			f.active = l.now
		}
		if dst.owes {
			dst.owes = false
			l.suspect(dst)
		}
	}()
	if err := dst.flush(); err != nil {
		return false, 1 - d, err
	}
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
		case len(dir.rest) > 0 && !dst.writable:
			return false, 0, nil
		case len(dir.rest) > 0 && (len(dir.rest) > scantRest || !src.readable || dir.eof || f.room(d) == 0):
			n, err := dst.write(dir.rest)
			moved += dir.payload(n)
			if err != nil {
				return false, 1 - d, err
			}
			if dir.rest = dir.rest[n:]; len(dir.rest) == 0 {
				dir.rest = nil
			}
		case dir.eof:
			done, err := dst.end()
			if err != nil {
				return false, 1 - d, err
			}
			if !done {
				return false, 0, nil
			}
			dir.finished, dst.owes = true, true
		case moved >= turnBytes || reads >= turnReads:
			return true, 0, nil
		case !src.readable || f.room(d) == 0:
			dir.giveBack(l)
			return false, 0, nil
		case dir.bulk && !src.urgent && len(dir.rest) == 0 && f.opening == nil && src.layer == nil && dst.layer == nil:
			if err := dir.fill(l, src); err != nil {
				return false, d, err
			}
		default:
			n, writing, err := f.carry(l, d)
			moved += n
			reads++
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

// carry reads once, through the loop's buffer, and writes what it read, behind
// the rest: so the header of a link and the first bytes of its peer are one
// segment. What the destination does not take is the rest then. It returns how
// much payload it wrote. With an error, writing tells that it is the destination's.
func (f *flow) carry(l *loop, d int) (moved int, writing bool, err error) {
	dir, src, dst := &f.dir[d], &f.side[d], &f.side[1-d]
	n := copy(l.buf, dir.rest)
	end := min(len(l.buf), n+f.room(d))
	read, err := dir.read(src, l.buf[n:end])
	if err != nil {
		return 0, false, err
	}
	if d == accepted {
		f.opening.keep(l.buf[n : n+read])
	}
	if n += read; n == 0 {
		return 0, false, nil
	}
	w := 0
	if dst.writable {
		if w, err = dst.write(l.buf[:n]); err != nil {
			return 0, true, err
		}
	}
	dir.rest = nil
	if w < n {
		dir.rest = append([]byte(nil), l.buf[w:n]...)
	}
	return dir.payload(w), false, nil
}

// room is how much direction d may read now.
func (f *flow) room(d int) int {
	if d == accepted {
		return f.opening.room()
	}
	return scratch
}

// payload is how much of n bytes that were written is payload.
func (dir *direction) payload(n int) int {
	extra := min(n, dir.extra)
	dir.extra -= extra
	return n - extra
}

// read reads once, and finds out from how much it was what the direction is.
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
	dst.owes = true
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
	if s.layer != nil {
		return s.readLayer(b)
	}
	n, errno := socket.Recv(s.fd, b)
	switch {
	case errno == unix.EAGAIN:
		s.readable = false
		return 0, nil
	case errno != 0:
		return 0, os.NewSyscallError("recv", errno)
	case n > 0 && n < len(b) && !s.ending && !s.urgent:
		s.readable = false
	}
	return n, nil
}

// readLayer does so through the layer.
func (s *side) readLayer(b []byte) (int, error) {
	n, err := s.layer.Read(b)
	switch {
	case err == unix.EAGAIN: //nolint:errorlint // a layer's word for it
		s.readable = false
	case n == 0 && err != nil && !errors.Is(err, io.EOF):
		return 0, err
	}
	return n, nil
}

// write writes once, and makes the side unwritable if it did not take all.
func (s *side) write(b []byte) (int, error) {
	if s.layer != nil {
		return s.writeLayer(b)
	}
	n, errno := socket.SendSome(s.fd, b)
	switch {
	case errno == unix.EAGAIN:
		s.writable = false
		return 0, nil
	case errno != 0:
		return 0, os.NewSyscallError("send", errno)
	case n < len(b):
		s.writable = false
	}
	s.owes = true
	return n, nil
}

// writeLayer does so through the layer.
func (s *side) writeLayer(b []byte) (int, error) {
	n, err := s.layer.Write(b)
	if err != nil && err != unix.EAGAIN { //nolint:errorlint // a layer's word for it
		return 0, err
	}
	s.owes = true
	return n, s.flush()
}

// flush sends what the layer has left of the last write, and makes the side unwritable
// if it did not send all.
func (s *side) flush() error {
	if s.layer == nil || !s.writable {
		return nil
	}
	err := s.layer.Flush()
	if err == unix.EAGAIN { //nolint:errorlint // a layer's word for it
		s.writable = false
		return nil
	}
	return err
}

// end passes the end of the other side on. It reports whether that is done: behind what
// the layer has left it has to wait.
func (s *side) end() (done bool, err error) {
	if s.layer != nil && !s.closing {
		s.closing = true
		if err := s.layer.CloseWrite(); err != nil {
			return false, err
		}
	}
	if err := s.flush(); err != nil || s.layer != nil && !s.writable {
		return false, err
	}
	return true, os.NewSyscallError("shutdown", unix.Shutdown(s.fd, unix.SHUT_WR))
}
