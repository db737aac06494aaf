package relay

// direction is one direction of a flow.
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
	// stream does not keep the loop from others. It is the size of a pipe:
	// splices of a quarter of it took a fifth more processor time per byte.
	turnBytes = pipeSize
	// turnReads bounds the reads per turn: a sender of single bytes has turns, too.
	turnReads = 64
	// smallRest is a rest that is written together with the next read.
	smallRest = 1 << 10
)

// pump moves direction d on until its source has no more, its destination
// takes no more, or its turn is over; only then more is true. An error comes
// with the side that broke.
func (f *flow) pump(w *workspace, d int) (more bool, broken int, err error) {
	dir, src, dst := &f.dir[d], &f.side[d], &f.side[1-d]
	moved, reads := 0, 0
	defer func() {
		if moved > 0 {
			f.meter.moved[d].Add(int64(moved))
			f.active = w.now
		}
		if dst.wrote {
			dst.wrote = false
			w.noteSent(dst)
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
		case len(dir.rest) > 0 && (len(dir.rest) > smallRest || !src.readable || dir.eof || f.room(d) == 0):
			n, err := dst.write(dir.rest)
			moved += dir.payload(n)
			if err != nil {
				return false, 1 - d, err
			}
			if dir.rest = dir.rest[n:]; len(dir.rest) == 0 {
				dir.rest = nil
			}
		case dir.eof:
			done, err := dst.closeWrite()
			if err != nil {
				return false, 1 - d, err
			}
			if !done {
				return false, 0, nil
			}
			dir.finished, dst.wrote = true, true
		case moved >= turnBytes || reads >= turnReads:
			return true, 0, nil
		case !src.readable || f.room(d) == 0:
			dir.putPipe(w)
			return false, 0, nil
		case dir.bulk && !src.urgent && len(dir.rest) == 0 && f.setup == nil && src.layer == nil && dst.layer == nil:
			if err := dir.fill(w, src); err != nil {
				return false, d, err
			}
		default:
			n, writing, err := f.carry(w, d)
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
	dir.putPipe(w)
	return false, 0, nil
}

// carry reads once into the loop's buffer, behind the rest, and writes both: so a
// link's header and the first bytes of its peer are one segment. It keeps as the rest what the
// destination does not take, and returns how much payload it wrote. With an error, writing
// reports whether the destination broke.
func (f *flow) carry(w *workspace, d int) (moved int, writing bool, err error) {
	dir, src, dst := &f.dir[d], &f.side[d], &f.side[1-d]
	n := copy(w.buf, dir.rest)
	end := min(len(w.buf), n+f.room(d))
	read, err := dir.read(src, w.buf[n:end])
	if err != nil {
		return 0, false, err
	}
	if d == accepted {
		f.setup.keep(w.buf[n : n+read])
	}
	if n += read; n == 0 {
		return 0, false, nil
	}
	wrote := 0
	if dst.writable {
		if wrote, err = dst.write(w.buf[:n]); err != nil {
			return 0, true, err
		}
	}
	dir.rest = nil
	if wrote < n {
		dir.rest = append([]byte(nil), w.buf[wrote:n]...)
	}
	return dir.payload(wrote), false, nil
}

// room returns how much direction d may read now.
func (f *flow) room(d int) int {
	if d == accepted {
		return f.setup.room()
	}
	return bufferSize
}

// payload returns how much of n bytes that were written is payload.
func (dir *direction) payload(n int) int {
	extra := min(n, dir.extra)
	dir.extra -= extra
	return n - extra
}
