package relay

// direction is one direction of a flow.
type direction struct {
	// What was read and not written yet is in rest, as it will be written, or in pipe.
	// Rest comes first, and is part of a frame's head if both have something.
	rest  []byte
	pipe  *pipe
	extra uint16 // bytes at the head of rest that are no payload: a header or a status

	large    uint8 // reads in a row that brought much, see bulk
	small    uint8 // splices in a row that brought little
	held     bool  // the rest waits for bytes of the source, see held.go
	sent     bool  // payload was written
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
		f.meter.add(d, moved)
		if dst.wrote {
			dst.wrote = false
			f.active = w.now
			w.noteSent(dst)
		}
	}()
	if err := dst.flush(); err != nil {
		return false, 1 - d, err
	}
	for !dir.finished {
		switch {
		case dir.pending() && !dst.writable:
			return false, 0, nil
		case dir.held && !src.hasMore() && f.meter.Up() <= heldUp:
			return false, 0, nil
		case len(dir.rest) > 0 && (len(dir.rest) > smallRest || !src.hasMore() || dir.eof || f.room(d) == 0 || dir.pipe.filled()):
			n, err := dst.write(dir.rest)
			dir.wrote(n)
			if err != nil {
				return false, 1 - d, err
			}
			if dir.rest = dir.rest[n:]; len(dir.rest) == 0 {
				dir.rest = nil
			}
		case dir.pipe.filled():
			if err := dir.drain(dst); err != nil {
				return false, 1 - d, err
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
			f.meter.halfClosed.Store(true)
		case moved >= turnBytes || reads >= turnReads:
			return true, 0, nil
		case !src.hasMore() || f.room(d) == 0:
			dir.putPipe(w)
			return false, 0, nil
		case f.splices(d) && len(dir.rest) == 0 && src.contentNext():
			n, err := dir.fill(w, src)
			moved += n
			if err != nil {
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
// destination does not take, and returns how much payload it read. With an error, writing
// reports whether the destination broke.
func (f *flow) carry(w *workspace, d int) (moved int, writing bool, err error) {
	dir, src, dst := &f.dir[d], &f.side[d], &f.side[1-d]
	n := copy(w.buf, dir.rest)
	body := n + dst.headRoom()
	end := min(len(w.buf)-dst.headRoom(), body+f.room(d))
	if f.splices(d) && src.headNext() {
		end = body + src.frames.in.Missing() // what is behind it is spliced
	}
	moved, err = dir.read(src, w.buf[body:end])
	if err != nil {
		if n > 0 && dst.writable { // it came before the error
			wrote, _ := dst.write(dir.rest)
			dir.wrote(wrote)
			dir.rest = dir.rest[wrote:]
		}
		return 0, false, err
	}
	if d == accepted {
		f.setup.keep(w.buf[body : body+moved])
	}
	b := dst.frame(w.buf, n, moved, dir.eof)
	if len(b) == 0 {
		return 0, false, nil
	}
	if d == accepted && moved == 0 && n == int(dir.extra) {
		dir.setExtra(len(b)) // the end of a peer that has said nothing
	}
	wrote := 0
	if dst.writable {
		wrote, err = dst.write(b)
	}
	dir.wrote(wrote)
	if err != nil {
		return 0, true, err
	}
	dir.rest = nil
	if wrote < len(b) {
		dir.rest = append([]byte(nil), b[wrote:]...)
	}
	return moved, false, nil
}

// splices reports whether direction d splices its content. Heads of frames are read.
func (f *flow) splices(d int) bool {
	src, dst := &f.side[d], &f.side[1-d]
	return f.dir[d].bulk() && !src.urgent && f.setup == nil && src.layer == nil && dst.layer == nil
}

// pending reports whether something was read and not written yet.
func (dir *direction) pending() bool { return len(dir.rest) > 0 || dir.pipe.filled() }

// room returns how much direction d may read now.
func (f *flow) room(d int) int {
	if d == accepted {
		return f.setup.room()
	}
	return bufferSize
}

// wrote notes that n bytes were written from the rest.
func (dir *direction) wrote(n int) {
	dir.held = false
	if n > int(dir.extra) {
		dir.sent = true
	}
	dir.extra -= uint16(min(n, int(dir.extra)))
}
