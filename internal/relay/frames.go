package relay

import (
	"fmt"
	"io"

	"portredirector/internal/wire"
)

// frames is the state of a link during one exchange: what it carries for one pair.
type frames struct {
	in     wire.Decoder
	raw    []byte // read and not decoded: before the exchange began, or behind its terminator
	onFree func(link int, said []byte)
}

// errLinkEnded is the end of a link within an exchange.
var errLinkEnded = fmt.Errorf("the link has ended: %w", io.ErrUnexpectedEOF)

// frame makes side l a link. raw was read from it already, and is not decoded.
func (f *flow) frame(l int, answer bool, raw []byte, onFree func(int, []byte)) {
	f.side[l].frames = &frames{in: wire.Decoder{Answer: answer}, raw: raw, onFree: onFree}
}

// link returns the number of the side that is a link, and reports whether there is one.
func (f *flow) link() (l int, ok bool) {
	for l := range f.side {
		if f.side[l].frames != nil {
			return l, true
		}
	}
	return 0, false
}

// read reads once what is to be relayed, and reports whether the direction has ended.
func (s *side) read(b []byte) (n int, eof bool, err error) {
	if s.frames != nil {
		return s.readFrames(b)
	}
	return s.readBytes(b)
}

// readFrames reads once and decodes what was read: b gets the content of data frames.
func (s *side) readFrames(b []byte) (n int, eof bool, err error) {
	fr := s.frames
	if fr.in.Over() == wire.Reset {
		return 0, false, ErrLinkReset
	}
	if len(fr.raw) > 0 {
		n = copy(b, fr.raw)
		if fr.raw = fr.raw[n:]; len(fr.raw) == 0 {
			fr.raw = nil
		}
	} else if n, eof, err = s.readBytes(b); err != nil || n == 0 {
		if eof {
			err = errLinkEnded
		}
		return 0, false, err
	}
	content, rest, err := fr.in.Decode(b[:n])
	if err != nil {
		return 0, false, err
	}
	over := fr.in.Over()
	if over == 0 {
		return content, false, nil
	}
	fr.raw = append(append([]byte(nil), b[n-rest:n]...), fr.raw...)
	switch {
	case over != wire.Reset:
		return content, true, nil
	case content == 0:
		return 0, false, ErrLinkReset
	}
	s.readable = true // the content goes before the reset, which is next
	return content, false, nil
}

// hasMore reports whether a read may give something.
func (s *side) hasMore() bool { return s.readable || s.frames != nil && len(s.frames.raw) > 0 }

// contentNext reports whether the next bytes of a side are all to be relayed.
func (s *side) contentNext() bool {
	return s.frames == nil || s.frames.in.Left() > 0 && len(s.frames.raw) == 0
}

// headNext reports whether the next bytes of a side are the head of a frame.
func (s *side) headNext() bool {
	return s.frames != nil && s.frames.in.Left() == 0 && s.frames.in.Over() == 0 && len(s.frames.raw) == 0
}

// headRoom returns the room that content for a side needs in front, for the head of a frame.
func (s *side) headRoom() int {
	if s.frames == nil {
		return 0
	}
	return wire.FrameHead
}

// appendFrames appends content, if there is any, as a frame to the bytes b that go to a
// link. eof adds the end of the direction.
func (s *side) appendFrames(b, content []byte, eof bool) []byte {
	n := len(b)
	if len(content) > 0 {
		b = append(append(b, make([]byte, wire.FrameHead)...), content...)
	}
	return s.frame(b, n, len(content), eof)
}

// frame prepares buf for writing to a side. The first n bytes are there already, and
// content bytes behind their headRoom. eof adds the end of the direction.
func (s *side) frame(buf []byte, n, content int, eof bool) []byte {
	if s.frames == nil {
		return buf[:n+content]
	}
	if content > 0 {
		wire.PutHead(buf[n:], wire.KindData, content)
		n += wire.FrameHead + content
	}
	if !eof {
		return buf[:n]
	}
	s.ended = true
	return wire.AppendHead(buf[:n], wire.KindEnd, 0)
}
