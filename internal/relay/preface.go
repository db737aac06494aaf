package relay

import (
	"bytes"
	"io"
	"time"
)

// lastWords bounds what a preface may still take once the engine drains.
const lastWords = 3 * time.Second

// readPreface reads what the accepted socket says, until that decides what is next.
func (f *flow) readPreface(w *workspace) (event, error) {
	s := &f.side[accepted]
	for s.readable || s.failed {
		said, eof, err := f.readSaid(w.buf)
		switch {
		case err != nil:
			return acceptedBroke, err
		case eof && len(f.setup.said) == 0:
			return rejected, io.EOF
		case eof:
			return rejected, io.ErrUnexpectedEOF
		case len(said) == 0:
			return nothing, nil
		}
		next, err := f.hear(w, said)
		switch {
		case err != nil:
			return rejected, err
		case next.HandOver != nil:
			f.setup.next = next.HandOver
			return handedOver, nil
		case next.Pair != nil:
			w.life.pairs.Add(1)
			f.startPair(w, next.Pair)
			if err := f.side[dialed].watch(w.poll, f.number, dialed, watched|writable); err != nil {
				return failed, err
			}
			return nothing, nil
		}
	}
	return nothing, nil
}

// readSaid reads once into b. What the caller has read already comes first, all of it: it may
// be more than b.
func (f *flow) readSaid(b []byte) (said []byte, eof bool, err error) {
	if said = f.setup.early; len(said) > 0 {
		f.setup.early = nil
		return said, false, nil
	}
	n, eof, err := f.side[accepted].readBytes(b)
	return b[:n], eof, err
}

// hear passes new bytes of a preface to its OnData, behind what it has seen, and keeps them.
func (f *flow) hear(w *workspace, b []byte) (Next, error) {
	s := f.setup
	if len(s.said) > 0 {
		s.said = append(s.said, b...)
		return s.onData(s.said)
	}
	next, err := s.onData(b)
	if err == nil && next.Pair == nil && next.HandOver == nil {
		s.said = bytes.Clone(b)
		timeout := s.timeout
		if w.draining {
			timeout = lastWords
		}
		w.setDeadline(s, timeout)
	}
	return next, err
}

// silent reports whether nothing was heard of the accepted socket so far.
func (f *flow) silent() bool {
	return !f.ended && f.stage() == prefacing && len(f.setup.said) == 0 && !f.side[accepted].readable
}
