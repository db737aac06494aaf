package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

const (
	// shortest is the length of the shortest header of any form: "1.1.1.1:1:1\n".
	shortest = 12

	// pooled is the length of headers that are read without allocating. The specification
	// keeps its headers below 536 bytes, the smallest TCP segment that every host takes;
	// common senders stay below 256.
	pooled = 536
)

// buffers holds *[pooled]byte. They cannot live on the stack of Read, because the argument
// of an io.Reader escapes.
var buffers = sync.Pool{New: func() any { return new([pooled]byte) }}

// Read reads one header from r, in whichever form it comes, and consumes no byte
// beyond it. The Form is Native where the sender asked for an answer, and V2 for
// every other v2 header.
//
// Of a reader that breaks off, or whose bytes are refused, some bytes may have
// been consumed; there is nothing to be done with it but to close it. Errors are
// listed at [ErrUnknown].
func Read(r io.Reader) (Header, Form, error) { return read(r, nil) }

// ReadNext reads the header of a later exchange of a link, which is the content of a frame,
// and consumes no byte beyond it. With a key the header must be sealed, see [ReadSealed].
// Only the Native form is allowed.
func ReadNext(r io.Reader, key []byte, number uint64) (Header, Form, error) {
	var head [FrameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Header{}, 0, err
	}
	kind, length := Kind(head[0]), int64(binary.BigEndian.Uint32(head[:])&MaxData)
	if kind != KindHeader || length < v2Fixed || length > v2Fixed+v2Longest {
		return Header{}, 0, fmt.Errorf("%w in place of a header: kind %#02x, %d bytes", ErrFrame, byte(kind), length)
	}
	var s *seal
	if key != nil {
		s = &seal{key, number}
	}
	content := &io.LimitedReader{R: r, N: length}
	h, form, err := read(content, s)
	cut := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	switch {
	case cut && content.N > 0:
		err = io.ErrUnexpectedEOF
	case cut, err == nil && (content.N > 0 || form != Native):
		err = fmt.Errorf("%w: its content is not one native header", ErrFrame)
	}
	if err != nil {
		return Header{}, 0, err
	}
	return h, form, nil
}

// read reads one header, and checks its seal unless seal is nil.
func read(r io.Reader, seal *seal) (Header, Form, error) {
	buf, _ := buffers.Get().(*[pooled]byte)
	defer buffers.Put(buf)

	b, s, err := collect(r, buf[:0])
	if err != nil {
		return Header{}, 0, err
	}
	h, f, err := s.parse(b)
	if err == nil && seal != nil {
		err = seal.check(b, f)
	}
	if err != nil {
		return Header{}, 0, err
	}
	return h, f, nil
}

// collect appends one whole header to b, which is empty, and returns its shape. Invariant:
// no header that starts with b ends before the n bytes that are read next, so nothing
// behind it is read.
func collect(r io.Reader, b []byte) ([]byte, shape, error) {
	var s shape
	for n := shortest; n > 0; {
		b = slices.Grow(b, n)
		got, err := io.ReadAtLeast(r, b[len(b):len(b)+n], 1)
		if errors.Is(err, io.EOF) && len(b) > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, s, err
		}
		b = b[:len(b)+got]
		if s.more == nil {
			if s, err = shapeOf(b[0]); err != nil {
				return nil, s, err
			}
		}
		if n, err = s.more(b); err != nil {
			return nil, s, err
		}
	}
	return b, s, nil
}

// shape reads one family of headers.
type shape struct {
	// more returns how many bytes must at least follow b, the beginning of a
	// header, which has at least one byte; 0 if b is complete.
	more func(b []byte) (int, error)

	// parse reads the complete header b, and may overwrite it.
	parse func(b []byte) (Header, Form, error)
}

// shapeOf returns the shape for the first byte. The shape's more checks the rest as it
// comes in.
func shapeOf(first byte) (shape, error) {
	switch {
	case first == signature[0]:
		return shape{moreV2, parseV2}, nil
	case first == v1Prefix[0]:
		return shape{moreV1, parseV1}, nil
	case '0' <= first && first <= '9':
		return shape{morePy, parsePy}, nil
	case first == tlsHandshake:
		return shape{moreTLS, nil}, nil
	}
	return shape{}, ErrUnknown
}

// A TLS record starts with its content type and the major version, which has been 3 since
// SSL 3.0 (RFC 8446, section 5.1).
const (
	tlsHandshake = 0x16
	tlsMajor     = 0x03
)

// moreTLS recognizes TLS and refuses it.
func moreTLS(b []byte) (int, error) {
	switch {
	case len(b) < 2:
		return 1, nil
	case b[1] == tlsMajor:
		return 0, ErrTLS
	}
	return 0, ErrUnknown
}
